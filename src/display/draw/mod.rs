//! From numbers and labels to a picture: colours, a font, marks on a scene, PNG and SVG.

pub(crate) mod bins;
pub(crate) mod color;
pub(crate) mod draw_grid;
pub(crate) mod font;
pub(crate) mod gather;
pub(crate) mod grid;
pub(crate) mod number;
pub(crate) mod plot;
pub(crate) mod raster;
pub(crate) mod scene;
pub(crate) mod text;
pub(crate) mod token_rows;
