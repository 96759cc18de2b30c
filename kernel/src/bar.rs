//! A bar that is drawn anew while something long is done: a sweep in a cell, or the build of the session library.

use serde::{Deserialize, Serialize};

/// Characters of the bar in text.
const WIDTH: usize = 24;

/// How far the work is; the session library sends it in this form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// The same for one piece of work.
    pub id: u64,
    /// What is done, how much of it, how fast, and what is left.
    pub text: String,
    /// From 0 to 1, where the end is known.
    pub fraction: Option<f64>,
    pub state: BarState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BarState {
    Running,
    Done,
    /// It ended early: by an error, or an interrupt.
    Stopped,
}

impl Bar {
    /// `[######        ] text`; the text alone when nothing is left to do.
    pub fn plain(&self) -> String {
        match (self.fraction, self.state) {
            (Some(fraction), BarState::Running | BarState::Stopped) => {
                let full = (fraction.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
                format!("[{}{}] {}", "#".repeat(full), " ".repeat(WIDTH - full), self.text)
            }
            _ => self.text.clone(),
        }
    }

    /// Elements and attributes that Jupyter leaves in untrusted notebooks, too.
    pub fn html(&self) -> String {
        let text = self.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let bar = match (self.fraction, self.state) {
            (_, BarState::Done) => String::new(),
            (Some(fraction), _) => {
                format!("<progress value=\"{:.4}\" max=\"1\"></progress> ", fraction.clamp(0.0, 1.0))
            }
            (None, BarState::Stopped) => String::new(),
            (None, BarState::Running) => "<progress></progress> ".to_string(),
        };
        format!("<div style=\"font-family:monospace;white-space:pre-wrap\">{bar}{text}</div>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(fraction: Option<f64>, state: BarState) -> Bar {
        Bar { id: 1, text: "a < b".into(), fraction, state }
    }

    #[test]
    fn a_bar_is_as_full_as_the_work() {
        assert_eq!(bar(Some(0.5), BarState::Running).plain(), format!("[{}{}] a < b", "#".repeat(12), " ".repeat(12)));
        assert_eq!(bar(Some(1.0), BarState::Done).plain(), "a < b");
        assert!(bar(Some(0.25), BarState::Running).html().contains("value=\"0.2500\""));
        assert!(bar(None, BarState::Running).html().contains("<progress></progress> a &lt; b"));
        assert!(!bar(Some(1.0), BarState::Done).html().contains("<progress"));
    }
}
