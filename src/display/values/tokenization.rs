//! How a text's tokens look.

use crate::display::{Bundle, Show, TokenizationView};
use crate::tokens::Tokenization;

/// The tokens as boxes, and a table with their ids and bytes.
impl Show for Tokenization {
    fn bundle(&self) -> Bundle {
        TokenizationView::new(self.clone()).bundle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokenizer;

    #[test]
    fn a_tokenization_shows_its_view() {
        let tokenization = Tokenizer::gpt2().unwrap().inspect(" Claire").unwrap();
        assert_eq!(tokenization.bundle(), TokenizationView::new(tokenization.clone()).bundle());
        assert!(tokenization.svg().is_some());
    }
}
