//! An architecture as a diagram: the residual stream, what reads it and adds to it, and every hook point by its name.

mod picture;

use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::hooks::{Fires, PointInfo};

/// What is said of the points that are drawn lighter.
const ON_REQUEST: &str = "on request: fires only when a hook or a cache asks for it by name";

/// A model's architecture, drawn as a run goes through it: the residual stream from the embedding to the unembedding,
/// what reads it and what adds to it. One block stands for all. Every hook point that can fire is named.
///
/// Made by [`HookedTransformer::diagram`](crate::model::HookedTransformer::diagram).
///
/// ```
/// use candlescope::prelude::*;
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let diagram = model.diagram();
/// assert!(diagram.bundle().text.contains("attn.hook_pattern"));
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Diagram {
    pub(crate) title: String,
    /// The encoder and the decoder, or the only stack.
    pub(crate) stacks: Vec<Stack>,
}

/// Blocks from an embedding to an end; one of them is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    /// Empty where there is only one stack.
    pub title: String,
    pub before: Vec<Stage>,
    pub block_title: String,
    pub block: Vec<Stage>,
    pub after: Vec<Stage>,
    /// All points, those that others stand for included.
    pub points: Vec<PointInfo>,
}

/// What comes next on the way of the residual stream.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// A point of the stream itself.
    Node(Point),
    /// What the stream goes through.
    Through(Part),
    /// What reads the stream here, each from first to last part, and adds to it.
    Branches(Vec<Vec<Part>>),
    /// Blocks that are not drawn.
    Skipped(String),
}

/// A box: what it is, and its points in the order in which they fire.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub kind: Kind,
    pub heading: String,
    pub points: Vec<Point>,
    /// A sentence below the points.
    pub note: Option<String>,
}

/// What a part is, which gives it its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Embedding and unembedding.
    Ends,
    Norm,
    Attention,
    Mlp,
    Mixer,
    Plain,
}

/// A hook point; in a block its name is the one within the block.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub name: String,
    pub info: PointInfo,
}

/// A line of text, and what stands in the column to its right.
type Line = (String, String);

impl Diagram {
    pub(crate) fn view(&self) -> View {
        View {
            text: self.text(),
            scene: Some(picture::scene(self)),
            alt: format!("Architecture of {}, with hook points", self.title),
            above: String::new(),
            below: self.table(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![bare(escape::visible_line(&self.title))];
        for stack in &self.stacks {
            lines.push(bare(""));
            lines.extend(stack.lines());
        }
        lines.extend([bare(""), bare(ON_REQUEST)]);
        let with_more = lines.iter().filter(|(_, more)| !more.is_empty());
        let width = with_more.map(|(text, _)| text.chars().count()).max().unwrap_or(0);
        let line = |(text, more): &Line| match more.is_empty() {
            true => escape::terminal(text),
            false => escape::terminal(&format!("{text:<width$}  {more}")),
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn table(&self) -> String {
        let row = |info: &PointInfo| {
            let fires = match &info.fires {
                Fires::Always => "in every run",
                Fires::OnRequest => "on request",
                Fires::Never(_) => "never",
            };
            [info.point.name(), info.shape, fires].map(|text| html::cell(text, false)).concat()
        };
        let rows: Vec<String> = self.stacks.iter().flat_map(|stack| &stack.points).map(row).collect();
        let head = ["hook point", "shape", "fires"].map(String::from);
        html::details("Hook points as a table", &html::table(&head, &rows))
    }
}

show_view!(Diagram);

impl Stack {
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(bare(self.title.as_str()));
        }
        for (i, stage) in self.before.iter().enumerate() {
            if i > 0 {
                lines.push(bare("│"));
            }
            lines.extend(stage.lines("│"));
        }
        if !self.block.is_empty() {
            lines.extend([bare("│"), bare(format!("│ {}", self.block_title))]);
            lines.extend(self.block.iter().flat_map(|stage| stage.lines("│")));
        }
        for (i, stage) in self.after.iter().enumerate() {
            lines.push(bare("│"));
            // The stream ends in the last one.
            lines.extend(stage.lines(if i + 1 < self.after.len() { "│" } else { " " }));
        }
        lines
    }
}

impl Stage {
    /// `stream` stands where the stream runs on.
    fn lines(&self, stream: &str) -> Vec<Line> {
        match self {
            Stage::Node(point) => vec![point.line("● ")],
            Stage::Through(part) => part.lines("□", stream),
            Stage::Branches(branches) => branch_lines(branches),
            Stage::Skipped(blocks) => vec![bare(format!("⋮ {blocks}"))],
        }
    }
}

/// Branches one below the other. All of them leave the stream at its top, and each comes back where it ends.
fn branch_lines(branches: &[Vec<Part>]) -> Vec<Line> {
    let mut lines = vec![bare(format!("├{}─┐", "─┬".repeat(branches.len().saturating_sub(1))))];
    for (i, parts) in branches.iter().enumerate() {
        let (before, waiting) = ("  ".repeat(i), branches.len() - i - 1);
        for part in parts {
            let heading = format!("│{before} ├{}─", "─│".repeat(waiting));
            lines.extend(part.lines(&heading, &format!("│{before} │{}", " │".repeat(waiting))));
        }
        lines.push(bare(format!("⊕{}─┘{}", "──".repeat(i), " │".repeat(waiting))));
    }
    lines
}

impl Part {
    pub fn new(kind: Kind, heading: String, points: Vec<Point>) -> Self {
        Self { kind, heading, points, note: None }
    }

    /// The heading behind `first`, and what is in the part behind `rest`.
    fn lines(&self, first: &str, rest: &str) -> Vec<Line> {
        let indent = format!("{rest}    ");
        let mut lines = vec![bare(format!("{first} {}", self.heading))];
        lines.extend(self.points.iter().map(|point| point.line(&indent)));
        lines.extend(self.note.iter().map(|note| bare(format!("{indent}{note}"))));
        lines
    }
}

impl Point {
    fn is_on_request(&self) -> bool {
        self.info.fires == Fires::OnRequest
    }

    fn line(&self, before: &str) -> Line {
        let on_request = if self.is_on_request() { "  on request" } else { "" };
        (format!("{before}{}", self.name), format!("{}{on_request}", self.info.shape))
    }
}

fn bare(text: impl Into<String>) -> Line {
    (text.into(), String::new())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::display::Show;
    use crate::model::{HookedTransformer, ModelConfig};

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    fn model(name: &str) -> HookedTransformer {
        HookedTransformer::from_pretrained(&fixtures().join(name).to_string_lossy()).unwrap()
    }

    fn has_lines(text: &str, wanted: &[&str]) {
        for line in wanted {
            assert!(text.lines().any(|found| found == *line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn each_point_that_can_fire_is_named_once_in_the_order_of_a_run() {
        let mut seen = 0;
        for entry in std::fs::read_dir(fixtures()).unwrap() {
            let folder = entry.unwrap().path();
            if !folder.is_dir() {
                continue;
            }
            seen += 1;
            let model = HookedTransformer::from_pretrained(&folder.to_string_lossy()).unwrap();
            let drawn = |info: &&PointInfo| {
                !matches!(info.fires, Fires::Never(_)) && info.point.layer().is_none_or(|layer| layer == 0)
            };
            let wanted: Vec<&str> = model.hook_points().iter().filter(drawn).map(|info| info.point.name()).collect();

            let view = model.diagram().view();
            let scene = view.scene.unwrap();
            let named: Vec<&str> = scene.hots.iter().filter_map(|hot| hot.title.split_whitespace().next()).collect();
            assert_eq!(named, wanted, "{folder:?}");
            assert!(scene.width <= 760.0, "{folder:?} is {} wide", scene.width);

            let within = |name: &str| name.split_once("blocks.0.").map_or(name, |(_, tail)| tail).to_string();
            let named: Vec<&str> = view.text.split_whitespace().filter(|word| word.contains("hook_")).collect();
            assert_eq!(named, wanted.iter().map(|name| within(name)).collect::<Vec<_>>(), "{}", view.text);
            for name in &wanted {
                assert_eq!(view.below.matches(&format!(">{name}<")).count(), 1, "{name} in {folder:?}");
            }
        }
        assert!(seen > 20, "the fixtures are missing");
    }

    #[test]
    fn the_bundled_model() {
        let model = HookedTransformer::from_pretrained("tiny").unwrap();
        let bundle = model.diagram().bundle();
        assert!(bundle.png.is_some() && bundle.html.unwrap().contains("<summary>Hook points as a table</summary>"));
        let lines = [
            "tiny: 3 blocks",
            "□ embedding: 1,200 tokens, learned positions",
            "│ blocks.0, one of 3",
            "● hook_resid_pre               [batch, pos, d_model]",
            "├─┐",
            "│ ├─ reads the stream",
            "│ ├─ ln1: LayerNorm",
            "│ ├─ attention: 4 heads of 32",
            "│ │    attn.hook_pattern       [batch, head, query, key]",
            "│ │    attn.hook_result        [batch, pos, head, d_model]  on request",
            "⊕─┘",
            "│ ├─ MLP: 512 wide, gelu_new",
            "⋮ blocks.1 and blocks.2",
            "│    ln_final.hook_normalized  [batch, pos, d_model]",
            "□ unembedding: 1,200 tokens",
        ];
        has_lines(&bundle.text, &lines);
        has_lines(&model.diagram_of(2).unwrap().bundle().text, &["⋮ blocks.0 and blocks.1", "│ blocks.2, one of 3"]);
        let error = model.diagram_of(3).unwrap_err().to_string();
        assert_eq!(error, "there is no layer 3: the model has 3");
        let attn_only = HookedTransformer::from_pretrained("tiny-attn-only-2l").unwrap().diagram().bundle().text;
        assert!(attn_only.matches('⊕').count() == 1 && !attn_only.contains("MLP"), "{attn_only}");
    }

    #[test]
    fn parallel_branches_leave_the_stream_together() {
        // Each branch has a norm, or both share one.
        for (name, shared) in [("falcon_40b_style", false), ("cohere2", true)] {
            let view = model(name).diagram().view();
            has_lines(&view.text, &["├─┬─┐", "⊕─┘ │", "⊕───┘"]);
            assert_eq!(view.text.contains("goes through the attention's norm"), shared, "{}", view.text);
        }
        let serial = model("gpt_neox_serial").diagram().view().text;
        assert!(!serial.contains('┬') && serial.matches("⊕─┘").count() == 2, "{serial}");
    }

    #[test]
    fn every_kind_of_part_has_its_words() {
        let of = |name: &str| model(name).diagram().view().text;
        has_lines(&of("llama"), &["│ ├─ attention: 4 heads of 8, 2 kv heads, rotary", "│ ├─ MLP: 48 wide, gated silu"]);
        has_lines(&of("gemma2"), &["│ ├─ ln1_post: RMSNorm", "□ ln_final: RMSNorm"]);
        has_lines(&of("bloom"), &["│ ├─ attention: 4 heads of 8, ALiBi"]);
        has_lines(&of("mixtral"), &["│ ├─ 4 experts 48 wide, gated silu, 2 for each token"]);
        let mixer = "│ ├─ state-space mixer: 64 channels with 8 numbers of state, convolution over 4";
        has_lines(&of("mamba"), &["│ ├─ norm: RMSNorm", mixer]);
        // Norms behind the addition: the stream goes through them.
        has_lines(&of("bert"), &["□ ln1: LayerNorm", "□ ln2: LayerNorm"]);
        assert!(of("bert").contains("● hook_attn_out") && of("bart").contains("│ ├─ adds to the stream"));
        let t5 = of("t5");
        let cross = "│ ├─ cross-attention: 4 heads of 8, keys and values from the encoder";
        has_lines(&t5, &["encoder", "decoder", "□ to the decoder's cross-attention", cross]);
        assert!(t5.starts_with(&fixtures().join("t5").to_string_lossy().into_owned()), "{t5}");
        assert!(t5.contains(": 3 encoder blocks and 2 decoder blocks\n"), "{t5}");
        // Layer 2 is there in the encoder only.
        has_lines(
            &model("t5").diagram_of(2).unwrap().view().text,
            &["│ encoder_blocks.2, one of 3", "│ decoder_blocks.1, one of 2"],
        );
        assert!(model("t5").diagram_of(3).is_err());
    }

    #[test]
    fn a_name_can_not_do_harm() {
        let tiny = HookedTransformer::from_pretrained("tiny").unwrap();
        let model_name = "<script>alert(1)</script>\"\u{1b}[31m\n\u{202e}".to_string();
        let cfg = ModelConfig { model_name, ..tiny.cfg().clone() };
        let diagram = HookedTransformer::from_weights(cfg, tiny.weights()).unwrap().diagram();
        let bundle = diagram.bundle();
        let html = bundle.html.unwrap();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>alert") && !html.contains('\u{1b}'));
        assert!(!diagram.svg().unwrap().contains("<script>"));
        assert!(!bundle.text.contains(['\u{1b}', '\u{202e}']), "{}", bundle.text);
        assert!(bundle.text.starts_with("<script>alert(1)</script>\"\\u{1b}[31m↵"), "{}", bundle.text);
    }
}
