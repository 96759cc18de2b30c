//! What a model expects next.

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::number::number;
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT, TITLE};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::show_own_page;

/// The likeliest next tokens, each with its probability as a bar.
#[derive(Clone, Debug, Default)]
pub struct TopTokens {
    rows: Vec<Row>,
    prompt: String,
    title: String,
}

#[derive(Clone, Debug)]
struct Row {
    token: String,
    id: u32,
    probability: f32,
    logit: Option<f32>,
}

impl TopTokens {
    /// An empty list; add tokens, likeliest first, with [`token`](Self::token).
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token with its id, its probability (0 to 1) and, if known, its logit.
    pub fn token(mut self, token: impl Into<String>, id: u32, probability: f32, logit: Option<f32>) -> Self {
        self.rows.push(Row { token: token.into(), id, probability, logit });
        self
    }

    /// The text that the tokens would continue; its end is shown.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// A title above the list.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    fn heading(&self) -> String {
        let prompt = escape::visible_line(&self.prompt);
        let long = prompt.chars().count().saturating_sub(60);
        let end: String = prompt.chars().skip(long).collect();
        let end = if long > 0 { format!("…{end}") } else { end };
        match (self.title.is_empty(), end.is_empty()) {
            (true, true) => "next token".to_string(),
            (true, false) => format!("next token after \"{end}\""),
            (false, true) => escape::visible_line(&self.title),
            (false, false) => format!("{}: after \"{end}\"", escape::visible_line(&self.title)),
        }
    }

    fn html(&self) -> String {
        let head = ["", "token", "id", "probability", "", "logit"].map(String::from);
        let with_logits = self.rows.iter().any(|r| r.logit.is_some());
        let head = if with_logits { &head[..] } else { &head[..5] };
        let one = |(i, row): (usize, &Row)| {
            // A bar of characters needs no styles.
            let bar = crate::display::draw::text::bar(f64::from(row.probability), 20);
            let bar = format!("<td style=\"padding:2px 6px\"><font color=\"#3c82be\">{bar}</font></td>");
            let mut cells = html::cell(&i.to_string(), true);
            cells += &html::cell(&escape::shorten(&escape::visible(&row.token), 100), false);
            cells += &html::cell(&row.id.to_string(), true);
            cells += &html::cell(&percent(row.probability), true);
            cells += &bar;
            if with_logits {
                cells += &html::cell(&row.logit.map(|l| number(l.into())).unwrap_or_default(), true);
            }
            cells
        };
        let rows: Vec<String> = self.rows.iter().enumerate().map(one).collect();
        html::heading(&self.heading()) + &html::table(head, &rows)
    }

    fn scene(&self) -> Scene {
        const ROW: f64 = 20.0;
        const BAR: f64 = 260.0;
        let texts: Vec<String> = self
            .rows
            .iter()
            .take(40)
            .map(|r| font::fit(&font::drawable(&escape::shorten(&escape::visible(&r.token), 60)), TEXT, 220.0))
            .collect();
        let mut scene = Scene::default();
        scene.text(-40.0, -TITLE, &font::fit(&font::drawable(&self.heading()), 13.0, 560.0), 13.0, Align::Left);
        let left = texts.iter().map(|t| font::width(t, TEXT)).fold(30.0, f64::max) + 18.0;
        for (i, (text, row)) in texts.iter().zip(&self.rows).enumerate() {
            let y = (i as f64 + 0.5) * ROW;
            scene.ink(-16.0, y, &i.to_string(), SMALL, Align::Right, Rgb::FAINT);
            scene.text(0.0, y, text, TEXT, Align::Left);
            let part = f64::from(if row.probability.is_finite() { row.probability.clamp(0.0, 1.0) } else { 0.0 });
            scene.rect(left, y - 7.0, BAR, 14.0, Rgb(240, 243, 246));
            scene.rect(left, y - 7.0, (part * BAR).max(1.0), 14.0, Rgb(60, 130, 190));
            scene.text(left + BAR + 60.0, y, &percent(row.probability), SMALL, Align::Right);
            scene.ink(left + BAR + 76.0, y, &format!("id {}", row.id), SMALL, Align::Left, Rgb::FAINT);
        }
        scene.finish()
    }

    fn text(&self) -> String {
        let mut lines = vec![self.heading()];
        let row = |(i, row): (usize, &Row)| {
            let token = escape::shorten(&escape::visible(&row.token), 30);
            let logit = row.logit.map(|l| format!("logit {}", number(l.into()))).unwrap_or_default();
            let bar = crate::display::draw::text::bar(f64::from(row.probability), 20);
            vec![i.to_string(), token, percent(row.probability), format!("{bar:<20}"), format!("id {}", row.id), logit]
        };
        let rows: Vec<Vec<String>> = self.rows.iter().take(40).enumerate().map(row).collect();
        lines.extend(crate::display::draw::text::columns(&rows, &[true, false, true]));
        lines.join("\n")
    }
}

fn percent(probability: f32) -> String {
    let part = f64::from(probability) * 100.0;
    if part.is_finite() && part >= 0.005 { format!("{part:.2}%") } else { format!("{}%", number(part)) }
}

show_own_page!(TopTokens);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn tokens_come_with_probabilities() {
        let top =
            TopTokens::new().token(" Mary", 5335, 0.7012, Some(18.25)).token("<b>", 3, 1e-7, None).prompt("a drink to");
        let bundle = top.bundle();
        assert!(
            bundle.text.starts_with("next token after \"a drink to\"\n0  ·Mary  70.12%  ██████"),
            "{}",
            bundle.text
        );
        assert!(bundle.text.contains("1e-5%") && bundle.text.contains("logit 18.25"));
        assert!(!bundle.html.unwrap().contains("<b><"));
    }

    #[test]
    fn odd_probabilities_have_a_look() {
        let bundle = TopTokens::new().token("x", 0, f32::NAN, None).bundle();
        assert!(bundle.text.contains("NaN%") && bundle.png.is_some());
        assert!(TopTokens::new().bundle().png.is_some());
    }
}
