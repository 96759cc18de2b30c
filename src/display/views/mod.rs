//! The views: plain owned values made of numbers and labels.

pub(crate) mod attention_view;
pub(crate) mod bar_chart;
pub(crate) mod card;
pub(crate) mod complex_plane;
pub(crate) mod diagram;
pub(crate) mod facets;
pub(crate) mod heatmap;
pub(crate) mod histogram_chart;
pub(crate) mod line_chart;
pub(crate) mod scatter;
pub(crate) mod table;
pub(crate) mod token_boxes;
pub(crate) mod token_grid;
pub(crate) mod tokenization;
pub(crate) mod top_tokens;
