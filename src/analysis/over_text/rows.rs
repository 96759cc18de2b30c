//! Texts become rows of tokens, and rows become batches.

use super::OverText;
use super::corpus::{Documents, Source, TextSource};
use crate::tokens::{PaddingSide, Tokenizer, Tokens};
use crate::{Error, Result};

/// Some rows of a corpus that a model runs on at once.
#[derive(Clone, Debug)]
pub struct TextBatch {
    tokens: Tokens,
    first_row: usize,
    /// How many tokens at the start of a row don't count.
    skipped: usize,
}

impl TextBatch {
    /// The tokens, `[batch, pos]`, with a mask if some are padding.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Which row of the corpus the first one is.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// Which positions count, `[batch][pos]`: not padding, and not BOS where that is skipped.
    pub fn counted(&self) -> Vec<Vec<bool>> {
        let skipped = self.skipped;
        let real = self.real();
        real.into_iter()
            .map(|row| row.into_iter().enumerate().map(|(pos, real)| real && pos >= skipped).collect())
            .collect()
    }

    /// The places that count, in the batch's rows one behind the other.
    pub(crate) fn counted_places(&self) -> Vec<u32> {
        (0u32..).zip(self.counted().concat()).filter(|(_, counts)| *counts).map(|(place, _)| place).collect()
    }

    /// Which positions are not padding, `[batch][pos]`.
    pub fn real(&self) -> Vec<Vec<bool>> {
        let (batch, pos) = self.tokens.shape();
        self.tokens.mask().map_or_else(|| vec![vec![true; pos]; batch], <[Vec<bool>]>::to_vec)
    }
}

/// The batches of a corpus, made as they are asked for.
pub(super) struct Batches {
    rows: Rows,
    tokenizer: Option<Tokenizer>,
    batch_size: usize,
    left: usize,
    next_row: usize,
    skipped: usize,
}

enum Rows {
    /// Rows that are there already, and which is next.
    Ready(Tokens, usize),
    /// Rows that are made from texts.
    Made(Box<Maker>),
}

impl Batches {
    pub fn new(over: &OverText) -> Result<Self> {
        let n_ctx = over.model.cfg().n_ctx;
        let (rows, skipped) = match &over.corpus.source {
            Source::Tokens(tokens) => {
                let length = tokens.shape().1;
                if length > n_ctx {
                    return Err(Error::PromptTooLong { found: length, n_ctx });
                }
                let bos = over.model.tokenizer().ok().and_then(Tokenizer::bos_id);
                let begins = |row: &Vec<u32>| bos.is_some() && row.first() == bos.as_ref();
                (Rows::Ready(tokens.clone(), 0), usize::from(over.skip_bos && tokens.ids().iter().all(begins)))
            }
            Source::Texts(texts) => {
                let maker = Maker::new(over, texts)?;
                let skipped = if over.skip_bos { maker.beginning.len() } else { 0 };
                (Rows::Made(Box::new(maker)), skipped)
            }
        };
        Ok(Self {
            rows,
            tokenizer: over.model.tokenizer().ok().cloned(),
            batch_size: over.batch_size,
            left: over.max_rows.unwrap_or(usize::MAX),
            next_row: 0,
            skipped,
        })
    }

    /// The next batch; none at the end.
    pub fn next(&mut self) -> Result<Option<TextBatch>> {
        let wanted = self.batch_size.min(self.left);
        let tokens = match &mut self.rows {
            Rows::Ready(tokens, next) => {
                let rows = *next..tokens.shape().0.min(*next + wanted);
                *next = rows.end;
                tokens.some_rows(rows)
            }
            Rows::Made(maker) => {
                let mut rows = Vec::new();
                while rows.len() < wanted
                    && let Some(row) = maker.next()?
                {
                    rows.push(row);
                }
                Tokens::padded(rows, maker.pad, PaddingSide::Right)?
            }
        };
        if tokens.is_empty() {
            return Ok(None);
        }
        let tokens = match &self.tokenizer {
            Some(tokenizer) => tokens.with_tokenizer(tokenizer),
            None => tokens,
        };
        let batch = TextBatch { first_row: self.next_row, skipped: self.skipped, tokens };
        self.next_row += batch.tokens.shape().0;
        self.left -= batch.tokens.shape().0;
        Ok(Some(batch))
    }

    /// How many tokens at the start of each row don't count.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The part of the work that is done, where the end is known.
    pub fn fraction(&self) -> Option<f64> {
        let of_rows = |all: usize| self.next_row as f64 / all.max(1) as f64;
        let limit = self.left.checked_add(self.next_row).filter(|_| self.left < usize::MAX / 2);
        let of_source = match &self.rows {
            Rows::Ready(tokens, _) => Some(of_rows(tokens.shape().0)),
            Rows::Made(maker) => maker.fraction(),
        };
        match (limit.map(of_rows), of_source) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }
}

/// Makes rows out of texts: joined by EOS and cut, or each in rows of its own.
struct Maker {
    documents: Documents,
    tokenizer: Tokenizer,
    joined: bool,
    beginning: Vec<u32>,
    ending: Vec<u32>,
    /// Between texts that are joined.
    separator: Option<u32>,
    pad: u32,
    /// Tokens of text in a full row.
    room: usize,
    /// Tokens that wait for a row, and where they begin.
    waiting: Vec<u32>,
    from: usize,
    any: bool,
    ended: bool,
}

impl Maker {
    fn new(over: &OverText, texts: &TextSource) -> Result<Self> {
        let tokenizer = over.model.tokenizer()?;
        let (beginning, ending) = tokenizer.row_frame(over.prepend_bos)?;
        let length = over.row_length;
        let around = beginning.len() + ending.len();
        if length <= around || length < 2 || length > over.model.cfg().n_ctx {
            return Err(Error::msg(format!(
                "rows of {length} tokens don't fit: they need {} at least ({around} stand around the text), and the model's \
                 context is {}; set another row_length(..)",
                (around + 1).max(2),
                over.model.cfg().n_ctx
            )));
        }
        Ok(Self {
            documents: Documents::open(texts)?,
            tokenizer: tokenizer.clone(),
            joined: over.joined,
            separator: tokenizer.eos_id(),
            // Masked, so that any id would do.
            pad: tokenizer.pad_id().unwrap_or(0),
            room: length - around,
            beginning,
            ending,
            waiting: Vec::new(),
            from: 0,
            any: false,
            ended: false,
        })
    }

    /// The next row: full unless its text, or the corpus, ends in it.
    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        while !self.ended && self.waiting() < if self.joined { self.room } else { 1 } {
            match self.documents.next()? {
                None => self.ended = true,
                Some(text) if text.is_empty() => {}
                Some(text) => {
                    self.waiting.drain(..self.from);
                    self.from = 0;
                    if self.joined && self.any {
                        self.waiting.extend(self.separator);
                    }
                    self.waiting.extend(self.tokenizer.encode(&text)?);
                    self.any = true;
                }
            }
        }
        let taken = self.waiting().min(self.room);
        if taken == 0 {
            return Ok(None);
        }
        let text = &self.waiting[self.from..self.from + taken];
        self.from += taken;
        Ok(Some([&self.beginning, text, &self.ending].concat()))
    }

    fn waiting(&self) -> usize {
        self.waiting.len() - self.from
    }

    fn fraction(&self) -> Option<f64> {
        match self.documents.fraction() {
            Some(read) => Some(read),
            // A whole file was read at once: what counts is how much of it is used up.
            None => Some(self.from as f64 / self.waiting.len().max(1) as f64),
        }
    }
}
