//! The HTML of views: readable without scripts, interactive where they run.

pub(crate) mod attention_html;
pub(crate) mod html;
pub(crate) mod token_row;
