//! [`Reader`]: little-endian numbers and pieces of a byte slice, none of them beyond its end.

/// What comes next in a slice of bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Why a value could not be read.
pub(super) type Why = String;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A reader that starts at an offset, which may lie outside.
    pub(super) fn at(bytes: &'a [u8], at: u64) -> Result<Self, Why> {
        let inside = usize::try_from(at).ok().filter(|at| *at <= bytes.len());
        let at = inside.ok_or_else(|| format!("offset {at} lies beyond its {} bytes", bytes.len()))?;
        Ok(Self { bytes, at })
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes, without copying them.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Why> {
        let left = self.left();
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= left)
            .ok_or_else(|| format!("{count} bytes were expected at offset {}, and {left} are left", self.at))?;
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next bytes up to a line's end, which is skipped.
    pub(super) fn line(&mut self) -> Result<&'a [u8], Why> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| "a line has no end".to_string())?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Why> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Why> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Why> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Why> {
        self.array().map(u64::from_le_bytes)
    }
}
