//! Pictures in a terminal, by escape codes that take a PNG file as it is.

use std::io::IsTerminal;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The library draws pictures at twice their size, and a column of a terminal is about as wide as 8 of its pixels.
const PIXELS_PER_COLUMN: usize = 16;
/// When the terminal doesn't say how wide it is.
const USUAL_COLUMNS: usize = 80;
/// The most that the kitty protocol takes at once.
const KITTY_CHUNK: usize = 4096;

/// How a terminal takes pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pictures {
    /// kitty's graphics protocol
    Kitty,
    /// iTerm2's inline images
    Iterm,
    /// Text instead of pictures
    None,
}

impl Pictures {
    /// How the terminal takes them that standard output is.
    pub fn of_this_terminal() -> Self {
        if std::io::stdout().is_terminal() { Self::told_by(&|name| std::env::var(name).ok()) } else { Self::None }
    }

    /// The codes that draw a PNG file in base64; none if it is not one, or if the terminal takes no pictures.
    pub fn draw(self, png: &str) -> Option<String> {
        let png: String = png.split_whitespace().collect();
        let file = BASE64_STANDARD.decode(&png).ok()?;
        let columns = (width(&file)?.div_ceil(PIXELS_PER_COLUMN)).clamp(1, columns_of_this_terminal());
        match self {
            Self::Kitty => Some(kitty(&png, columns)),
            Self::Iterm => Some(iterm(&png, file.len(), columns)),
            Self::None => None,
        }
    }

    /// From the environment variables by which terminals make themselves known.
    fn told_by(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let term = variable("TERM").unwrap_or_default();
        let program = variable("TERM_PROGRAM").unwrap_or_default();
        // These keep the codes to themselves, and the variables of the terminal around them.
        let inside_another = is_set("TMUX") || is_set("STY") || term.starts_with("tmux") || term.starts_with("screen");
        if inside_another || term == "dumb" {
            return Self::None;
        }
        match program.as_str() {
            "iTerm.app" | "WezTerm" => return Self::Iterm,
            "ghostty" => return Self::Kitty,
            // Its variables are those of the terminal that it was started from; whether it takes pictures is a setting.
            "vscode" => return Self::None,
            _ => {}
        }
        let kitty = ["KITTY_WINDOW_ID", "KONSOLE_VERSION", "GHOSTTY_RESOURCES_DIR"];
        if kitty.into_iter().any(is_set) || term == "xterm-kitty" || term == "xterm-ghostty" {
            Self::Kitty
        } else if variable("LC_TERMINAL").as_deref() == Some("iTerm2") || is_set("WEZTERM_PANE") {
            Self::Iterm
        } else {
            Self::None
        }
    }
}

/// Sends the file in chunks, and asks for no answer, which would look typed.
fn kitty(png: &str, columns: usize) -> String {
    let mut codes = String::new();
    let mut rest = png;
    let mut keys = format!("f=100,a=T,q=2,c={columns},");
    while !rest.is_empty() {
        // Base64 is ASCII, so that every cut is between characters.
        let (chunk, after) = rest.split_at(rest.len().min(KITTY_CHUNK));
        let more = u8::from(!after.is_empty());
        codes += &format!("\u{1b}_G{keys}m={more};{chunk}\u{1b}\\");
        keys.clear();
        rest = after;
    }
    codes + "\n"
}

fn iterm(png: &str, size: usize, columns: usize) -> String {
    format!("\u{1b}]1337;File=inline=1;size={size};width={columns};preserveAspectRatio=1:{png}\u{7}\n")
}

/// In pixels, as a PNG file says in its first chunk.
fn width(file: &[u8]) -> Option<usize> {
    let header = file.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let width = header.get(8..12)?.try_into().ok().map(u32::from_be_bytes)?;
    usize::try_from(width).ok()
}

fn columns_of_this_terminal() -> usize {
    console::Term::stdout().size_checked().map_or(USUAL_COLUMNS, |(_, columns)| usize::from(columns).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_by(variables: &[(&str, &str)]) -> Pictures {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        Pictures::told_by(&find)
    }

    /// The beginning of a PNG file, `width` pixels wide, and then some.
    fn png(width: u32, more: usize) -> String {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.resize(file.len() + more, 0);
        BASE64_STANDARD.encode(file)
    }

    #[test]
    fn terminals_are_known_by_their_variables() {
        assert_eq!(told_by(&[("TERM", "xterm-kitty")]), Pictures::Kitty);
        assert_eq!(told_by(&[("TERM", "xterm-256color"), ("KONSOLE_VERSION", "240800")]), Pictures::Kitty);
        assert_eq!(told_by(&[("TERM_PROGRAM", "ghostty")]), Pictures::Kitty);
        assert_eq!(told_by(&[("TERM_PROGRAM", "iTerm.app")]), Pictures::Iterm);
        assert_eq!(told_by(&[("TERM_PROGRAM", "WezTerm"), ("TERM", "xterm-256color")]), Pictures::Iterm);
        assert_eq!(told_by(&[("LC_TERMINAL", "iTerm2"), ("TERM", "xterm-256color")]), Pictures::Iterm);
        assert_eq!(told_by(&[("TERM", "xterm-256color")]), Pictures::None);
        assert_eq!(told_by(&[]), Pictures::None);
    }

    #[test]
    fn a_terminal_inside_another_is_not_taken_for_it() {
        let kitty = ("KITTY_WINDOW_ID", "1");
        assert_eq!(told_by(&[kitty]), Pictures::Kitty);
        assert_eq!(told_by(&[kitty, ("TMUX", "/tmp/tmux-0/default,1,0")]), Pictures::None);
        assert_eq!(told_by(&[kitty, ("TERM", "screen-256color")]), Pictures::None);
        assert_eq!(told_by(&[kitty, ("TERM_PROGRAM", "vscode")]), Pictures::None);
    }

    #[test]
    fn kitty_gets_chunks_of_4096_and_the_keys_once() {
        let codes = kitty(&"A".repeat(10_000), 40);
        let chunks: Vec<&str> = codes.trim_end().split_terminator("\u{1b}\\").collect();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[0], format!("\u{1b}_Gf=100,a=T,q=2,c=40,m=1;{}", "A".repeat(4096)));
        assert_eq!(chunks[1], format!("\u{1b}_Gm=1;{}", "A".repeat(4096)));
        assert_eq!(chunks[2], format!("\u{1b}_Gm=0;{}", "A".repeat(10_000 - 2 * 4096)));
        assert!(kitty("AAAA", 1).contains("m=0;AAAA"), "the first chunk may be the last");
    }

    #[test]
    fn iterm_gets_the_size_in_bytes() {
        let codes = iterm("AAAA", 3, 40);
        assert_eq!(codes, "\u{1b}]1337;File=inline=1;size=3;width=40;preserveAspectRatio=1:AAAA\u{7}\n");
    }

    #[test]
    fn a_picture_is_as_wide_as_its_letters_ask_for() {
        assert!(Pictures::Kitty.draw(&png(320, 100)).unwrap().contains(",c=20,"));
        assert!(Pictures::Iterm.draw(&png(1, 100)).unwrap().contains("size=120;width=1;"));
        let wrapped = png(320, 100).replace('A', "A\n");
        assert!(Pictures::Kitty.draw(&wrapped).unwrap().contains(&png(320, 100)), "lines are joined");
    }

    #[test]
    fn what_is_no_picture_is_not_drawn() {
        assert_eq!(Pictures::Kitty.draw("\u{1b}_Gm=0;\u{1b}\\"), None);
        assert_eq!(Pictures::Kitty.draw("AAAA"), None);
        assert_eq!(Pictures::None.draw(&png(320, 100)), None);
    }
}
