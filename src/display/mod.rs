//! How values look: as text in a terminal, as a picture everywhere, as a page in a notebook.
//!
//! A value that implements [`Show`] shows itself as the last expression of a notebook cell. The views here ([`Heatmap`],
//! [`LineChart`], [`AttentionView`], ..) are plain owned values made of numbers and labels; each has all three looks, made
//! from one description, and [`Show::save`] writes any of them to a file.
//!
//! Token texts and labels are untrusted input. They are escaped in every form.

mod attention_html;
mod attention_view;
mod attribution;
mod attribution_patching;
mod bar_chart;
mod bundle;
mod card;
mod color;
mod compare;
mod draw_grid;
pub mod escape;
mod facets;
mod font;
mod gather;
mod gradients;
mod grid;
mod heads;
mod heatmap;
mod html;
mod ioi;
mod labelled;
mod lens;
mod line_chart;
mod live;
mod notebook;
mod number;
mod over_text;
mod over_training;
mod plot;
mod probe;
mod raster;
mod scatter;
mod scene;
mod show;
mod singular_vectors;
mod steering;
mod subspace;
mod sweep_view;
mod table;
mod tensor;
mod text;
mod token_boxes;
mod token_grid;
mod top_tokens;
mod training;
mod values;
mod view;

pub use attention_view::AttentionView;
pub use bar_chart::{BarChart, MAX_BARS};
pub use bundle::Bundle;
pub use card::Card;
pub use color::{Rgb, Scale};
pub use facets::{Facets, MAX_PANELS};
pub use heatmap::Heatmap;
pub use line_chart::{LineChart, MAX_SERIES};
pub use live::Live;
pub use notebook::{bars, imshow, line, scatter};
pub use number::{count, number};
pub use scatter::{MAX_POINTS, Scatter};
pub use show::{MAX_ITEMS, Show};
pub use table::Table;
pub use token_boxes::{MAX_TOKENS, TokenBoxes};
pub use token_grid::TokenGrid;
pub use top_tokens::TopTokens;
