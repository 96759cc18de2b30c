//! Reads a pickle as data: values are built, and nothing is imported or called.
//!
//! Python's pickles are programs that may call anything. This reader knows the instructions that build values, and
//! stops at the first name that is not on its caller's list. A call of an allowed name is kept as a value, for the
//! caller to understand.

use std::collections::BTreeMap;

use super::reader::{Reader, Why};

/// Where a value stands in a [`Pickle`].
pub(super) type Ref = usize;

/// A value of a pickle. What it contains is referred to, so that a value is never copied and nothing recurses.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Bytes,
    /// An imported name: module and name.
    Global(String, String),
    Tuple(Vec<Ref>),
    List(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    /// A call that was not made.
    Call(Ref, Ref),
    /// A reference to something outside, by its description.
    Persistent(Ref),
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Ref,
}

impl Pickle {
    /// Reads a pickle; `allowed` says which names (module, name) may occur.
    pub(super) fn read(bytes: &[u8], allowed: fn(&str, &str) -> bool) -> Result<Self, Why> {
        let mut machine =
            Machine { values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: BTreeMap::new(), allowed };
        let mut reader = Reader::new(bytes);
        while !machine.step(&mut reader)? {}
        let root = machine.pop()?;
        Ok(Self { values: machine.values, root })
    }

    pub(super) fn root(&self) -> &Value {
        &self.values[self.root]
    }

    pub(super) fn value(&self, at: Ref) -> &Value {
        &self.values[at]
    }
}

struct Machine {
    values: Vec<Value>,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Ref>,
    allowed: fn(&str, &str) -> bool,
}

impl Machine {
    /// Does one instruction; whether it was the last.
    fn step(&mut self, reader: &mut Reader) -> Result<bool, Why> {
        let code = reader.u8()?;
        match code {
            // Version and frames.
            0x80 => drop(reader.u8()?),
            0x95 => drop(reader.u64()?),
            b'.' => return Ok(true),
            // Atoms.
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'K' => {
                let int = reader.u8()?;
                self.push(Value::Int(int.into()));
            }
            b'M' => {
                let int = reader.u16()?;
                self.push(Value::Int(int.into()));
            }
            b'J' => {
                let int = reader.u32()?;
                self.push(Value::Int((int as i32).into()));
            }
            0x8a => {
                let length = reader.u8()?;
                let int = long(reader.take(length.into())?)?;
                self.push(Value::Int(int));
            }
            b'G' => {
                reader.u64()?;
                self.push(Value::Float);
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => {
                let length = match code {
                    b'X' | b'T' => reader.u32()?.into(),
                    0x8d => reader.u64()?,
                    _ => reader.u8()?.into(),
                };
                let text = String::from_utf8_lossy(reader.take(length)?).into_owned();
                self.push(Value::Text(text));
            }
            b'B' | b'C' => {
                let length = if code == b'B' { reader.u32()? } else { reader.u8()?.into() };
                reader.take(length.into())?;
                self.push(Value::Bytes);
            }
            // Names.
            b'c' | b'i' => {
                let module = String::from_utf8_lossy(reader.line()?).into_owned();
                let name = String::from_utf8_lossy(reader.line()?).into_owned();
                self.global(module, name)?;
                if code == b'i' {
                    return Err("its pickle makes an object in a way that torch.save does not (INST)".to_string());
                }
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.global(module, name)?;
            }
            // Collections.
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or_else(empty)?;
                let items = self.stack.split_off(from);
                self.push(Value::Tuple(items));
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items));
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(pairs(&items)?));
            }
            b'a' | b'e' => {
                let items = if code == b'a' { vec![self.pop()?] } else { self.pop_to_mark()? };
                match self.top()? {
                    Value::List(list) => list.extend(items),
                    _ => return Err("its pickle appends to what is no list".to_string()),
                }
            }
            b's' | b'u' => {
                let items = if code == b's' {
                    let (value, key) = (self.pop()?, self.pop()?);
                    vec![key, value]
                } else {
                    self.pop_to_mark()?
                };
                let pairs = pairs(&items)?;
                match self.top()? {
                    Value::Dict(dict) => dict.extend(pairs),
                    _ => return Err("its pickle sets items of what is no dict".to_string()),
                }
            }
            // The stack and the memo.
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = *self.stack.last().ok_or_else(empty)?;
                self.stack.push(top);
            }
            b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'q' => reader.u8()?.into(),
                    b'r' => reader.u32()?,
                    _ => u32::try_from(self.memo.len()).map_err(|_| "its pickle stores too much".to_string())?,
                };
                let top = *self.stack.last().ok_or_else(empty)?;
                self.memo.insert(key, top);
            }
            b'h' | b'j' => {
                let key = if code == b'h' { reader.u8()?.into() } else { reader.u32()? };
                let known = self.memo.get(&key).copied();
                self.stack
                    .push(known.ok_or_else(|| format!("its pickle recalls number {key}, which it did not store"))?);
            }
            // Objects: noted, never made.
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let call = self.call(function, arguments)?;
                self.push(call);
            }
            b'b' => {
                // The state of a dict or of a tensor: attributes, which no weight depends on.
                self.pop()?;
                if !matches!(self.top()?, Value::Dict(_) | Value::Call(..)) {
                    return Err("its pickle sets the state of what has none".to_string());
                }
            }
            b'Q' => {
                let description = self.pop()?;
                self.push(Value::Persistent(description));
            }
            other => {
                return Err(format!("its pickle has the instruction 0x{other:02x}, which torch.save does not write"));
            }
        }
        Ok(false)
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<Ref, Why> {
        // What lies below a mark is taken up with the mark only.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor { Err(empty()) } else { self.stack.pop().ok_or_else(empty) }
    }

    fn pop_text(&mut self) -> Result<String, Why> {
        let at = self.pop()?;
        match &self.values[at] {
            Value::Text(text) => Ok(text.clone()),
            _ => Err("its pickle imports what is no name".to_string()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Ref>, Why> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("its pickle closes a collection that it did not open")?))
    }

    fn top(&mut self) -> Result<&mut Value, Why> {
        let at = *self.stack.last().ok_or_else(empty)?;
        Ok(&mut self.values[at])
    }

    fn global(&mut self, module: String, name: String) -> Result<(), Why> {
        if !(self.allowed)(&module, &name) {
            return Err(format!(
                "its pickle wants '{module}.{name}', and weights need only tensors, dicts and numbers; nothing was executed"
            ));
        }
        self.push(Value::Global(module, name));
        Ok(())
    }

    /// A call that is not made; only an OrderedDict becomes a dict at once, for items are set on it.
    fn call(&self, function: Ref, arguments: Ref) -> Result<Value, Why> {
        let Value::Tuple(items) = &self.values[arguments] else {
            return Err("its pickle calls with what is no tuple".to_string());
        };
        match &self.values[function] {
            Value::Global(module, name) if module == "collections" && name == "OrderedDict" => {
                let pair = |at: &Ref| match &self.values[*at] {
                    Value::List(pair) | Value::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                    _ => Err("its pickle makes a dict of what are no pairs".to_string()),
                };
                match items.first().map(|at| &self.values[*at]) {
                    None => Ok(Value::Dict(Vec::new())),
                    Some(Value::List(list)) => Ok(Value::Dict(list.iter().map(pair).collect::<Result<_, _>>()?)),
                    Some(_) => Err("its pickle makes a dict of what is no list".to_string()),
                }
            }
            Value::Global(..) => Ok(Value::Call(function, arguments)),
            _ => Err("its pickle calls what is no function; nothing was executed".to_string()),
        }
    }
}

fn empty() -> Why {
    "its pickle takes from an empty stack".to_string()
}

fn pairs(items: &[Ref]) -> Result<Vec<(Ref, Ref)>, Why> {
    if !items.len().is_multiple_of(2) {
        return Err("its pickle has a key without a value".to_string());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// A number of up to eight bytes, little-endian, with a sign.
fn long(bytes: &[u8]) -> Result<i64, Why> {
    if bytes.len() > 8 {
        return Err(format!("its pickle has a number of {} bytes", bytes.len()));
    }
    let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(whole))
}
