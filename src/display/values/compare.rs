//! How two prompts side by side look.

use crate::Result;
use crate::analysis::compare::{Alignment, Comparison, Difference, ManyComparisons};
use crate::display::{Bundle, Heatmap, LineChart, MAX_SERIES, Show, Table};

/// Heads that are named below the picture.
const NAMED: usize = 5;

/// The difference of the residual streams, layers by tokens, and the heads that write most of it.
impl Show for Comparison {
    fn bundle(&self) -> Bundle {
        let pictures = [Some(self.heatmap().bundle()), self.heads_table().ok().map(|table| table.bundle())];
        Bundle::stack(&pictures.into_iter().flatten().collect::<Vec<_>>())
    }
}

impl Comparison {
    /// The picture that a notebook shows, to be changed before it is shown: how different the residual streams are, layers by
    /// tokens.
    pub fn heatmap(&self) -> Result<Heatmap> {
        self.stream()?.heatmap()
    }

    /// A line for each token (those that differ most), over the depth of the model.
    ///
    /// # Errors
    /// When an activation can't be read.
    pub fn lines(&self) -> Result<LineChart> {
        let stream = self.stream()?;
        let (layers, tokens) = (stream.axes()[0].labels(), stream.axes()[1].labels());
        let by_token: Vec<Vec<f32>> = stream.t()?.contiguous()?.to_vec2()?;
        let largest = |i: &usize| by_token[*i].iter().copied().fold(0.0, f32::max);
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by(|a, b| largest(b).total_cmp(&largest(a)));
        order.truncate(MAX_SERIES);
        order.sort_unstable();
        let mut chart = LineChart::new()
            .title(stream.title())
            .x_title(format!("layer ({} is the end)", layers.len() - 1))
            .y_title("part of the stream's length");
        for i in order {
            chart = chart.series(format!("{i}: {}", tokens[i].trim()), by_token[i].iter().copied());
        }
        Ok(chart)
    }

    fn heads_table(&self) -> Result<Table> {
        let tokens = self.alignment().labels();
        let row = |head: &Difference| {
            [format!("L{}H{}", head.layer, head.index), tokens[head.pair].clone(), format!("{:.3}", head.size)]
        };
        let heads = self.top_heads(NAMED)?;
        let table = Table::new(["head", "at the token", "part of the stream"]).rows(heads.iter().map(row));
        Ok(table.title("Heads that write most differently"))
    }
}

/// The mean difference of the residual streams, layers by tokens.
impl Show for ManyComparisons {
    fn bundle(&self) -> Bundle {
        self.mean(|pair| pair.stream()).and_then(|mean| mean.heatmap()).bundle()
    }
}

/// The two prompts' tokens side by side.
impl Show for Alignment {
    fn bundle(&self) -> Bundle {
        let [a, b] = self.texts();
        let text = |tokens: &[String], pos: Option<usize>| pos.map_or("-".to_string(), |pos| tokens[pos].clone());
        let rows = self.places().iter().map(|(one, other)| {
            let same = matches!((one, other), (Some(i), Some(j)) if a[*i] == b[*j]);
            [text(a, *one), text(b, *other), if same { String::new() } else { "different".to_string() }]
        });
        Table::new(["first", "second", ""]).rows(rows).title("Tokens side by side").bundle()
    }
}
