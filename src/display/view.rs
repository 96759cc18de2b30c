//! What every view is made of: text, a scene, and the HTML around the picture.

use super::bundle::Bundle;
use super::html;
use super::raster;
use super::scene::Scene;

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
        let mut picture = String::new();
        let mut file = None;
        if let Some(scene) = &self.scene {
            match raster::picture(scene) {
                Ok(png) => {
                    picture = html::picture(scene, &png, &self.alt);
                    file = Some(png);
                }
                Err(error) => text.push_str(&format!("\n({error})")),
            }
        }
        let html = html::frame(&format!("{}{picture}{}", self.above, self.below));
        Bundle { text, png: file, html: Some(html) }
    }

    pub fn svg(&self) -> Option<String> {
        self.scene.as_ref().and_then(|scene| raster::svg(scene).ok())
    }
}

/// Gives a type that has `fn view(&self) -> View` its `Show`.
macro_rules! show_view {
    ($type:ty) => {
        impl $crate::display::Show for $type {
            fn bundle(&self) -> $crate::display::Bundle {
                self.view().bundle()
            }

            fn svg(&self) -> Option<String> {
                self.view().svg()
            }
        }
    };
}
pub(crate) use show_view;
