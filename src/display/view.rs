//! What every view is made of: text, a scene, and the HTML around the picture.

use crate::display::bundle::Bundle;
use crate::display::draw::raster;
use crate::display::draw::scene::Scene;
use crate::display::page::html;

pub(crate) struct View {
    pub text: String,
    pub scene: Option<Scene>,
    /// What the picture shows, for those who don't see it.
    pub alt: String,
    /// HTML before and after the picture.
    pub above: String,
    pub below: String,
}

impl View {
    pub fn bundle(self) -> Bundle {
        let mut text = self.text;
        let png = self.scene.as_ref().and_then(|scene| drawn(scene, &mut text));
        let picture = match (&self.scene, &png) {
            (Some(scene), Some(png)) => html::picture(scene, png, &self.alt),
            _ => String::new(),
        };
        let html = html::frame(&format!("{}{picture}{}", self.above, self.below));
        Bundle { text, png, html: Some(html), scenes: self.scene.into_iter().collect() }
    }
}

/// The bundle of a view whose HTML is a page of its own, such as a table; the picture is for viewers without HTML.
pub(crate) fn with_own_page(mut text: String, scene: Scene, html: &str) -> Bundle {
    let png = drawn(&scene, &mut text);
    Bundle { text, png, html: Some(html::frame(html)), scenes: vec![scene] }
}

/// The scene as a PNG; if it can't be drawn, the text says why.
fn drawn(scene: &Scene, text: &mut String) -> Option<Vec<u8>> {
    match raster::picture(scene) {
        Ok(png) => Some(png),
        Err(error) => {
            text.push_str(&format!("\n({error})"));
            None
        }
    }
}

/// Gives a type that has `fn view(&self) -> View` its `Show`.
macro_rules! show_view {
    ($type:ty) => {
        impl $crate::display::Show for $type {
            fn bundle(&self) -> $crate::display::Bundle {
                self.view().bundle()
            }
        }
    };
}
pub(crate) use show_view;

/// Gives a type that has `text`, `scene` and `html` its `Show`.
macro_rules! show_own_page {
    ($type:ty) => {
        impl $crate::display::Show for $type {
            fn bundle(&self) -> $crate::display::Bundle {
                $crate::display::view::with_own_page(self.text(), self.scene(), &self.html())
            }
        }
    };
}
pub(crate) use show_own_page;
