//! How lenses look: the likeliest token of every layer and position.

use crate::Result;
use crate::analysis::{LabelledTensor, LensReading, LensToken};
use crate::display::{Bundle, Scale, Show, TokenGrid};
use crate::tokens::TokenChoice;

/// Likeliest tokens that are named under the pointer.
const NAMED: usize = 5;

/// The likeliest token of every layer and position of the first row, coloured by its probability.
impl Show for LensReading {
    fn bundle(&self) -> Bundle {
        self.grid().bundle()
    }
}

impl LensReading {
    /// The picture that a notebook shows, to be changed before it is shown (`.title(..)`): the likeliest token of every layer
    /// and position of the first row, coloured by its probability; more of them under the pointer.
    pub fn grid(&self) -> Result<TokenGrid> {
        self.grid_of(0)
    }

    /// The same of another row of the batch.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn grid_of(&self, row: usize) -> Result<TokenGrid> {
        Ok(self.tokens_with(row, None)?.value_name("probability"))
    }

    /// The same, coloured by the probability of a token.
    ///
    /// # Errors
    /// A text that is not one token.
    pub fn grid_by_probability(&self, token: impl Into<TokenChoice>) -> Result<TokenGrid> {
        let values = self.probability(token)?;
        Ok(self.tokens_with(0, Some(first_row(&values)?))?.value_name(values.title()))
    }

    /// The same, coloured by the rank of a token: the darker, the nearer to the top (1 / (1 + rank)).
    ///
    /// # Errors
    /// A text that is not one token.
    pub fn grid_by_rank(&self, token: impl Into<TokenChoice>) -> Result<TokenGrid> {
        let ranks = self.rank(token)?;
        let values = first_row(&ranks)?;
        let hints = values.iter().map(|rank| format!("rank {rank}")).collect::<Vec<_>>();
        let near = values.iter().map(|rank| 1.0 / (1.0 + rank)).collect();
        Ok(self.tokens_with(0, Some(near))?.value_name(format!("1 / (1 + {})", ranks.title())).hints(hints))
    }

    /// The likeliest tokens of a row with values from 0 to 1 in row-major order: their own probabilities, or others.
    fn tokens_with(&self, row: usize, values: Option<Vec<f32>>) -> Result<TokenGrid> {
        let top = self.top_tokens(row, NAMED)?;
        let positions = self.positions(row)?;
        let likeliest = top.iter().flatten().map(|tokens| tokens.first());
        let own = || likeliest.clone().map(|token| token.map_or(0.0, |token| token.probability)).collect();
        let values: Vec<f32> = values.unwrap_or_else(own);
        let texts = likeliest.clone().map(|token| token.map_or(String::new(), |token| token.text.clone()));
        let hints = top.iter().flatten().map(|tokens| {
            let token = |token: &LensToken| format!("{} {:.1}%", token.text, token.probability * 100.0);
            tokens.iter().map(token).collect::<Vec<_>>().join(", ")
        });
        let cells: Vec<(String, f32)> = texts.zip(values).collect();
        let grid = TokenGrid::new(cells, top.len(), positions.len())?;
        let grid = grid.y_labels(self.labels()).x_labels(positions).hints(hints).title(self.title.clone());
        let grid = grid.scale(Scale::Sequential { low: 0.0, high: 1.0 });
        Ok(match &self.note {
            Some(note) => grid.note(note.clone()),
            None => grid,
        })
    }
}

/// The numbers of the first row of the batch.
fn first_row(values: &LabelledTensor) -> Result<Vec<f32>> {
    if values.axes().iter().any(|axis| axis.name() == "batch") {
        return Ok(values.at("batch", 0)?.values());
    }
    Ok(values.values())
}
