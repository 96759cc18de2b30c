//! How values look: as text in a terminal, as a picture everywhere, as a page in a notebook.
//!
//! A value that implements [`Show`] shows itself as the last expression of a notebook cell. The views here ([`Heatmap`],
//! [`LineChart`], [`AttentionView`], ..) are plain owned values made of numbers and labels; each has all three looks, made
//! from one description, and [`Show::save`] writes any of them to a file.
//!
//! Token texts and labels are untrusted input. They are escaped in every form.

mod bundle;
mod draw;
pub mod escape;
mod live;
mod notebook;
mod page;
mod show;
mod values;
mod view;
mod views;

pub use bundle::Bundle;
pub use draw::color::{Rgb, Scale};
pub use draw::number::{count, number};
pub use live::Live;
pub use notebook::{bars, hist, imshow, line, scatter};
pub use show::{MAX_ITEMS, Show};
pub(crate) use values::sae::sae_losses;
pub use views::attention_view::AttentionView;
pub use views::bar_chart::{BarChart, MAX_BARS};
pub use views::card::Card;
pub use views::complex_plane::ComplexPlane;
pub use views::diagram::Diagram;
pub use views::facets::{Facets, MAX_PANELS};
pub use views::heatmap::Heatmap;
pub use views::histogram_chart::HistogramChart;
pub use views::line_chart::{LineChart, MAX_SERIES};
pub use views::scatter::{MAX_POINTS, Scatter};
pub use views::table::Table;
pub use views::token_boxes::{MAX_TOKENS, TokenBoxes};
pub use views::token_grid::TokenGrid;
pub use views::tokenization::TokenizationView;
pub use views::top_tokens::TopTokens;
