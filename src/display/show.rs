//! The one trait through which a value shows itself, and what it means for references, results, options and lists.

use std::fmt::Display;
use std::path::Path;

use super::escape;
use crate::display::bundle::Bundle;
use crate::display::page::html;
use crate::{Error, Result};

/// A value that shows itself in a notebook, a terminal or a file.
///
/// evcxr calls `evcxr_display` on the last expression of a cell, if the trait is in scope (the prelude brings it).
pub trait Show {
    /// The value as text, picture and page.
    fn bundle(&self) -> Bundle;

    /// The picture as SVG, where the value has one.
    fn svg(&self) -> Option<String> {
        self.bundle().svg()
    }

    /// Several such values together: one below the other, or on one line when they are only text.
    fn bundle_of_all(values: &[Self]) -> Bundle
    where
        Self: Sized,
    {
        list(values)
    }

    /// Shows the value: a notebook gets the whole bundle, a terminal the text.
    fn evcxr_display(&self) {
        self.bundle().print();
    }

    /// Writes the value to a file; the extension says in which form: `.png`, `.svg`, `.html` or `.txt`.
    ///
    /// # Errors
    /// When the extension is another one, when the value has no picture, or when the file can't be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
        let no_picture = || Error::msg(format!("{}: this value has no picture; save it as .txt", path.display()));
        let bytes = match extension.as_str() {
            "png" => self.bundle().png.ok_or_else(no_picture)?,
            "svg" => self.svg().ok_or_else(no_picture)?.into_bytes(),
            "html" => {
                let bundle = self.bundle();
                html::page(&bundle.html.unwrap_or_else(|| html::frame(&html::pre(&bundle.text)))).into_bytes()
            }
            "txt" => format!("{}\n", self.bundle().text).into_bytes(),
            _ => {
                let hint = "give it the extension .png, .svg, .html or .txt";
                return Err(Error::msg(format!("{}: {hint}", path.display())));
            }
        };
        std::fs::write(path, bytes).map_err(|source| Error::io(path, source))
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn bundle(&self) -> Bundle {
        (**self).bundle()
    }
}

impl<T: Show + ?Sized> Show for Box<T> {
    fn bundle(&self) -> Bundle {
        (**self).bundle()
    }
}

impl<T: Show + ?Sized> Show for std::sync::Arc<T> {
    fn bundle(&self) -> Bundle {
        (**self).bundle()
    }
}

/// The value, or the error as a sentence: a cell may end without `?`.
impl<T: Show, E: Display> Show for Result<T, E> {
    fn bundle(&self) -> Bundle {
        match self {
            Ok(value) => value.bundle(),
            Err(error) => sentence(&error.to_string()),
        }
    }
}

impl<T: Show> Show for Option<T> {
    fn bundle(&self) -> Bundle {
        match self {
            Some(value) => value.bundle(),
            None => Bundle::text("None"),
        }
    }
}

/// As [`Show::bundle_of_all`] has them: by default one below the other (the first [`MAX_ITEMS`]), or `[a, b, c]` when they
/// are only text.
impl<T: Show> Show for Vec<T> {
    fn bundle(&self) -> Bundle {
        T::bundle_of_all(self)
    }
}

impl<T: Show> Show for [T] {
    fn bundle(&self) -> Bundle {
        T::bundle_of_all(self)
    }
}

impl<T: Show, const N: usize> Show for [T; N] {
    fn bundle(&self) -> Bundle {
        T::bundle_of_all(self)
    }
}

impl<A: Show, B: Show> Show for (A, B) {
    fn bundle(&self) -> Bundle {
        Bundle::stack(&[self.0.bundle(), self.1.bundle()])
    }
}

impl<A: Show, B: Show, C: Show> Show for (A, B, C) {
    fn bundle(&self) -> Bundle {
        Bundle::stack(&[self.0.bundle(), self.1.bundle(), self.2.bundle()])
    }
}

/// A bundle shows itself.
impl Show for Bundle {
    fn bundle(&self) -> Bundle {
        self.clone()
    }
}

impl Show for () {
    fn bundle(&self) -> Bundle {
        Bundle::text("()")
    }
}

impl Show for String {
    fn bundle(&self) -> Bundle {
        self.as_str().bundle()
    }
}

impl Show for str {
    fn bundle(&self) -> Bundle {
        Bundle::text(escape::terminal(self))
    }
}

macro_rules! show_as_text {
    ($($type:ty),*) => {$(
        impl Show for $type {
            fn bundle(&self) -> Bundle {
                Bundle::text(format!("{self:?}"))
            }
        }
    )*};
}
show_as_text!(f32, f64, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, bool, char);

/// How many values of a list with pictures are shown.
pub const MAX_ITEMS: usize = 12;
/// How many values of a list of plain text are shown.
const MAX_TEXTS: usize = 100;

fn list<T: Show>(items: &[T]) -> Bundle {
    let shown: Vec<Bundle> = items.iter().take(MAX_TEXTS).map(Show::bundle).collect();
    let plain = shown.iter().all(|b| b.png.is_none() && b.html.is_none() && !b.text.contains('\n'));
    if plain {
        let mut texts: Vec<&str> = shown.iter().map(|b| b.text.as_str()).collect();
        let rest = items.len().saturating_sub(MAX_TEXTS);
        let more = format!(".. {rest} more");
        if rest > 0 {
            texts.push(&more);
        }
        return Bundle::text(format!("[{}]", texts.join(", ")));
    }
    let mut parts: Vec<Bundle> = shown.into_iter().take(MAX_ITEMS).collect();
    if items.len() > MAX_ITEMS {
        parts.push(Bundle::text(format!("The first {MAX_ITEMS} of {} values are shown.", items.len())));
    }
    Bundle::stack(&parts)
}

fn sentence(error: &str) -> Bundle {
    let text = format!("Error: {}", escape::terminal(error));
    let body = format!(
        "<div style=\"border-left:4px solid #b00020;padding:2px 8px\"><b style=\"color:#b00020\">Error:</b> {}</div>",
        escape::html(error)
    );
    Bundle { html: Some(html::frame(&body)), ..Bundle::text(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_shows_its_value_or_its_sentence() {
        let fine: Result<f32> = Ok(1.5);
        assert_eq!(fine.bundle().text, "1.5");
        let bad: Result<f32> = Err(Error::msg("no <b> here"));
        assert_eq!(bad.bundle().text, "Error: no <b> here");
        assert!(bad.bundle().html.unwrap().contains("no &lt;b&gt; here"));
        assert_eq!((&&fine).bundle(), fine.bundle());
    }

    #[test]
    fn lists_of_numbers_are_one_line() {
        assert_eq!(vec![1u32, 2].bundle().text, "[1, 2]");
        assert!(vec![0u8; 1000].bundle().text.ends_with(".. 900 more]"));
        assert_eq!(Some("a").bundle().text, "a");
    }

    #[test]
    fn saving_needs_a_known_extension() {
        let folder = std::env::temp_dir();
        let error = 1.0f32.save(folder.join("x.bmp")).unwrap_err().to_string();
        assert!(error.contains(".png, .svg, .html or .txt"), "{error}");
        assert!(1.0f32.save(folder.join("x.png")).unwrap_err().to_string().contains("no picture"));
        let path = folder.join(format!("candlescope-show-{}.txt", std::process::id()));
        1.5f32.save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1.5\n");
        std::fs::remove_file(path).unwrap();
    }
}
