//! What the process of the cells writes, sorted: evcxr's markers, displays, progress, and text, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Event, RUN_NUMBER};

/// evcxr's markers.
const BEGIN_CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
const END_CONTENT: &str = "EVCXR_END_CONTENT";
const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
const PANICKED: &str = "EVCXR_PANIC_NOTIFICATION";
const USER_ERROR: &str = "EVCXR_ERROR_OCCURRED";
const INPUT: &str = "EVCXR_INPUT_REQUEST";
const TYPE_CHANGED: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
const MARKER_START: &str = "EVCXR_";

/// The session library's own contents.
const PROGRESS: &str = "candlescope/progress";
const ERROR_TEXT: &str = "candlescope/stderr";

/// Text without its newline is shown after this time without more.
const PARTIAL_LINE: Duration = Duration::from_millis(100);
/// A display that nothing follows for this long is shown without waiting for the end of the cell.
const LONELY_DISPLAY: Duration = Duration::from_millis(200);
/// Standard error is collected this long, so that the message of an error stays in one piece.
const COLLECT_ERRORS: Duration = Duration::from_millis(50);

/// Text that follows other text sooner than this waits for more: a loop that prints lines is a few messages, and not as many
/// as it has lines.
const COLLECT_TEXT: Duration = Duration::from_millis(20);

/// A larger display makes a notebook that can't be opened any more.
const DISPLAY_LIMIT: usize = 32 << 20;
/// More text in one cell nobody reads, and browsers stand still over it.
const TEXT_LIMIT: usize = 8 << 20;

/// Something that was sorted out.
#[derive(Debug, PartialEq)]
pub enum Said {
    Event(Event),
    Marker(Marker),
}

/// What evcxr waits for.
#[derive(Debug, PartialEq)]
pub enum Marker {
    Complete,
    Panicked,
    /// A `?` ended the cell; with the error's text, where the session library wrote it.
    Failed(Option<String>),
    /// A line that is evcxr's as it is.
    Line(String),
}

impl Marker {
    /// As evcxr reads it.
    pub fn text(&self, run: u64) -> String {
        match self {
            Self::Complete => format!("{BEGIN_CONTENT}{RUN_NUMBER}\n{run}\n{END_CONTENT}\n{COMPLETE}"),
            Self::Panicked => PANICKED.to_string(),
            Self::Failed(_) => USER_ERROR.to_string(),
            Self::Line(line) => line.clone(),
        }
    }
}

/// Sorts a stream of bytes.
pub struct Sorter {
    said: Vec<Said>,
    /// The line that has not ended, what of it was too much, and when it last grew.
    line: Vec<u8>,
    cut: usize,
    line_since: Instant,
    content: Option<Content>,
    /// The display that is coming together: data by mime type.
    bundle: BTreeMap<String, String>,
    bundle_since: Instant,
    text: String,
    /// When text was shown last.
    text_shown: Option<Instant>,
    /// How much text this cell has shown.
    shown: usize,
    /// The last text that came through standard output for standard error: the message of an error, perhaps.
    error: Option<(String, Instant)>,
    /// What came through standard error itself.
    errors: Vec<u8>,
    errors_since: Instant,
}

/// A display's data of one mime type.
struct Content {
    mime: String,
    text: String,
    size: usize,
}

impl Sorter {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            said: Vec::new(),
            line: Vec::new(),
            cut: 0,
            line_since: now,
            content: None,
            bundle: BTreeMap::new(),
            bundle_since: now,
            text: String::new(),
            text_shown: None,
            shown: 0,
            error: None,
            errors: Vec::new(),
            errors_since: now,
        }
    }

    /// What was sorted out since the last call.
    pub fn take(&mut self) -> Vec<Said> {
        if self.text_shown.is_none_or(|shown| shown.elapsed() > COLLECT_TEXT) {
            self.flush_text();
        }
        std::mem::take(&mut self.said)
    }

    /// Bytes from standard output.
    pub fn output(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.grow_line(&rest[..end]);
            rest = &rest[end + 1..];
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let cut = std::mem::take(&mut self.cut);
            self.take_line(line, cut);
        }
        if !rest.is_empty() {
            self.grow_line(rest);
            self.line_since = Instant::now();
        }
    }

    /// Bytes from standard error.
    pub fn errors(&mut self, bytes: &[u8]) {
        if self.errors.is_empty() {
            self.errors_since = Instant::now();
        }
        self.errors.extend_from_slice(bytes);
    }

    /// Whether standard error itself said anything that is not shown yet.
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// What standard error itself said last: the message of a panic.
    pub fn take_errors(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.errors)).into_owned()
    }

    /// Shows what has waited long enough for company.
    pub fn time_passes(&mut self) {
        if self.error.as_ref().is_some_and(|(_, since)| since.elapsed() > COLLECT_ERRORS) {
            self.flush_error();
        }
        if !self.errors.is_empty() && (self.errors_since.elapsed() > COLLECT_ERRORS || self.errors.len() > 1 << 16) {
            self.flush_errors();
        }
        if !self.bundle.is_empty() && self.content.is_none() && self.bundle_since.elapsed() > LONELY_DISPLAY {
            self.flush_bundle(false);
        }
        if !self.line.is_empty() && self.content.is_none() && self.line_since.elapsed() > PARTIAL_LINE {
            let complete = complete_characters(&self.line);
            let text = String::from_utf8_lossy(&self.line[..complete]).into_owned();
            if complete > 0 && !may_hold_marker(&text) {
                self.line.drain(..complete);
                self.add_text(&text);
            }
        }
    }

    /// The cell is over: everything is shown, and the last display is the cell's result.
    pub fn finish(&mut self) {
        self.flush_text();
        self.flush_error();
        self.flush_errors();
        self.flush_bundle(true);
        self.shown = 0;
    }

    /// The process is gone in the middle of a cell.
    pub fn end(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if self.content.take().is_none() {
            self.add_text(&line);
        }
        self.flush_text();
        self.flush_bundle(false);
        self.flush_error();
        self.flush_errors();
    }

    fn grow_line(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min((DISPLAY_LIMIT + 1).saturating_sub(self.line.len()));
        self.line.extend_from_slice(&bytes[..fits]);
        self.cut += bytes.len() - fits;
    }

    fn take_line(&mut self, line: String, cut: usize) {
        if let Some(content) = &mut self.content {
            if line == END_CONTENT {
                if let Some(content) = self.content.take() {
                    self.add_content(content);
                }
                return;
            }
            if !line.ends_with(PANICKED) {
                content.add(&line, cut);
                return;
            }
            self.content = None;
        }
        if let Some((before, mime)) = line.split_once(BEGIN_CONTENT) {
            self.add_text(before);
            self.content = Some(Content { mime: mime.to_string(), text: String::new(), size: 0 });
        } else if let Some(before) = line.strip_suffix(COMPLETE) {
            self.add_text(before);
            self.mark(Marker::Complete);
        } else if let Some(before) = line.strip_suffix(PANICKED) {
            self.add_text(before);
            self.flush_bundle(false);
            self.flush_error();
            self.mark(Marker::Panicked);
        } else if let Some(before) = line.strip_suffix(USER_ERROR) {
            let message = self.error.take().map(|(text, _)| text);
            self.add_text(before);
            self.flush_bundle(false);
            self.mark(Marker::Failed(message));
        } else if line.starts_with(TYPE_CHANGED) || line.starts_with(INPUT) {
            self.mark(Marker::Line(line));
        } else {
            self.add_text(&(line + "\n"));
        }
    }

    fn add_content(&mut self, content: Content) {
        if content.size > DISPLAY_LIMIT {
            let (size, limit) = (content.size >> 20, DISPLAY_LIMIT >> 20);
            self.add_error(format!(
                "A display of {size} MB ({}) was refused: more than {limit} MB make a notebook that can't be opened. Show a \
                 part of it, or save it to a file with .save(path).\n",
                content.mime
            ));
            return;
        }
        let ours = |mime: &str| content.mime == mime;
        if ours(PROGRESS)
            && let Ok(bar) = serde_json::from_str(&content.text)
        {
            self.flush_text();
            self.flush_error();
            self.said.push(Said::Event(Event::Progress(bar)));
        } else if ours(ERROR_TEXT)
            && let Ok(text) = serde_json::from_str(&content.text)
        {
            self.add_error(text);
        } else {
            self.flush_text();
            self.flush_error();
            if self.bundle.contains_key(&content.mime) {
                self.flush_bundle(false);
            }
            self.bundle.insert(content.mime, content.text);
            self.bundle_since = Instant::now();
        }
    }

    fn add_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.flush_error();
            self.flush_bundle(false);
            let text = self.within_limit(text.to_string());
            self.text.push_str(&text);
        }
    }

    fn add_error(&mut self, text: String) {
        self.flush_text();
        self.flush_bundle(false);
        self.flush_error();
        self.error = Some((text, Instant::now()));
    }

    fn mark(&mut self, marker: Marker) {
        self.flush_text();
        self.said.push(Said::Marker(marker));
    }

    fn flush_text(&mut self) {
        if !self.text.is_empty() {
            self.said.push(Said::Event(Event::Stdout(std::mem::take(&mut self.text))));
            self.text_shown = Some(Instant::now());
        }
    }

    fn flush_error(&mut self) {
        if let Some((text, _)) = self.error.take() {
            let text = self.within_limit(text);
            self.said.push(Said::Event(Event::Stderr(text)));
        }
    }

    fn flush_errors(&mut self) {
        if !self.errors.is_empty() {
            self.flush_text();
            let text = self.take_errors();
            let text = self.within_limit(text);
            self.said.push(Said::Event(Event::Stderr(text)));
        }
    }

    fn flush_bundle(&mut self, last: bool) {
        let data = std::mem::take(&mut self.bundle);
        // A cell that ends in a block or a call without a result has the value `()`, which nobody wants to see.
        let unit = data.len() == 1 && data.get("text/plain").is_some_and(|text| text == "()");
        if !data.is_empty() && !unit {
            self.flush_text();
            self.said.push(Said::Event(Event::Display { data, last }));
        }
    }

    /// The text, or what of it this cell may still show.
    fn within_limit(&mut self, mut text: String) -> String {
        let before = self.shown;
        self.shown += text.len();
        if self.shown <= TEXT_LIMIT {
            return text;
        }
        if before > TEXT_LIMIT {
            return String::new();
        }
        text.truncate(text.floor_char_boundary(TEXT_LIMIT - before));
        text + &format!("\n[This cell has printed {} MB; the rest is not shown.]\n", TEXT_LIMIT >> 20)
    }
}

impl Content {
    fn add(&mut self, line: &str, cut: usize) {
        let newline = usize::from(self.size > 0);
        self.size += newline + line.len() + cut;
        if self.size > DISPLAY_LIMIT {
            self.text = String::new();
            return;
        }
        if newline > 0 {
            self.text.push('\n');
        }
        self.text.push_str(line);
    }
}

/// Length of the part that ends on a whole character.
fn complete_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => bytes.len(),
    }
}

/// Whether a marker is in the text, or may begin at its end.
fn may_hold_marker(text: &str) -> bool {
    text.contains(MARKER_START) || (1..MARKER_START.len()).any(|n| text.ends_with(&MARKER_START[..n]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(bytes: &str) -> Vec<Said> {
        let mut sorter = Sorter::new();
        sorter.output(bytes.as_bytes());
        sorter.flush_text();
        sorter.take()
    }

    fn content(mime: &str, text: &str) -> String {
        format!("EVCXR_BEGIN_CONTENT {mime}\n{text}\nEVCXR_END_CONTENT\n")
    }

    fn stdout(text: &str) -> Said {
        Said::Event(Event::Stdout(text.into()))
    }

    fn stderr(text: &str) -> Said {
        Said::Event(Event::Stderr(text.into()))
    }

    fn display(text: &str, last: bool) -> Said {
        Said::Event(Event::Display { data: BTreeMap::from([("text/plain".into(), text.into())]), last })
    }

    #[test]
    fn text_errors_and_displays_keep_their_order() {
        let bytes = [
            "one\ntwo\n",
            &content("candlescope/stderr", "\"careful\\n\""),
            &content("text/plain", "a picture"),
            &content("text/plain", "another"),
            "three\n",
        ]
        .concat();
        let expected = [
            stdout("one\ntwo\n"),
            stderr("careful\n"),
            display("a picture", false),
            display("another", false),
            stdout("three\n"),
        ];
        assert_eq!(sorted(&bytes), expected);
    }

    #[test]
    fn text_comes_at_once_and_what_follows_it_together() {
        let mut sorter = Sorter::new();
        sorter.output(b"first\n");
        assert_eq!(sorter.take(), [stdout("first\n")]);
        for line in ["a\n", "b\n", "c\n"] {
            sorter.output(line.as_bytes());
            assert_eq!(sorter.take(), []);
        }
        std::thread::sleep(2 * COLLECT_TEXT);
        assert_eq!(sorter.take(), [stdout("a\nb\nc\n")]);
        // Whatever else comes, the text that was before it is shown before it.
        sorter.output(b"d\n");
        sorter.errors(b"oh\n");
        sorter.finish();
        assert_eq!(sorter.take(), [stdout("d\n"), stderr("oh\n")]);
    }

    #[test]
    fn the_last_display_is_the_result_and_a_unit_is_none() {
        let mut sorter = Sorter::new();
        sorter.output((content("text/plain", "7") + "EVCXR_EXECUTION_COMPLETE\n").as_bytes());
        assert_eq!(sorter.take(), [Said::Marker(Marker::Complete)]);
        sorter.finish();
        assert_eq!(sorter.take(), [display("7", true)]);
        sorter.output(content("text/plain", "()").as_bytes());
        sorter.finish();
        assert_eq!(sorter.take(), []);
    }

    #[test]
    fn a_marker_behind_text_without_a_newline_is_found() {
        let said = sorted("half a lineEVCXR_EXECUTION_COMPLETE\n");
        assert_eq!(said, [stdout("half a line"), Said::Marker(Marker::Complete)]);
    }

    #[test]
    fn the_error_before_a_question_marks_marker_is_its_message() {
        let bytes = [
            &content("candlescope/stderr", "\"a note\\n\""),
            &content("candlescope/stderr", "\"no such file\\n\""),
            "EVCXR_ERROR_OCCURRED\n",
        ];
        let failed = Marker::Failed(Some("no such file\n".into()));
        assert_eq!(sorted(&bytes.map(|text| text.to_string()).concat()), [stderr("a note\n"), Said::Marker(failed)]);
    }

    #[test]
    fn a_display_that_is_too_large_is_refused_with_a_sentence() {
        let large = "x".repeat(50 << 20);
        let mut sorter = Sorter::new();
        sorter.output(content("image/png", &large).as_bytes());
        sorter.output(content("text/plain", "the text of it").as_bytes());
        sorter.finish();
        let said = sorter.take();
        assert!(
            matches!(&said[0], Said::Event(Event::Stderr(text)) if text.starts_with("A display of 50 MB (image/png) was refused")),
            "{said:?}"
        );
        assert_eq!(said[1], display("the text of it", true));
    }

    #[test]
    fn endless_text_ends() {
        let mut sorter = Sorter::new();
        let mut shown = 0;
        for _ in 0..40 {
            sorter.output("a line that is printed very often\n".repeat(10_000).as_bytes());
            shown += sorter.take().iter().map(|said| format!("{said:?}").len()).sum::<usize>();
        }
        assert!(shown > TEXT_LIMIT && shown < 2 * TEXT_LIMIT, "{shown}");
        sorter.finish();
        sorter.output(b"the next cell\n");
        assert_eq!(sorter.take(), [stdout("the next cell\n")]);
    }

    #[test]
    fn progress_is_an_event_of_its_own() {
        let bar = "{\"id\":3,\"text\":\"sweep: 4 runs\",\"fraction\":0.5,\"state\":\"running\"}";
        let said = sorted(&content("candlescope/progress", bar));
        assert!(matches!(&said[..], [Said::Event(Event::Progress(bar))] if bar.id == 3), "{said:?}");
    }

    #[test]
    fn a_marker_may_begin_at_the_end() {
        assert!(may_hold_marker("text EVC"));
        assert!(may_hold_marker("EVCXR_EXEC"));
        assert!(!may_hold_marker("50 %"));
    }

    #[test]
    fn half_a_character_waits() {
        let bytes = "aé".as_bytes();
        assert_eq!(complete_characters(&bytes[..2]), 1);
        assert_eq!(complete_characters(bytes), 3);
        assert_eq!(complete_characters(&[0xff, b'a']), 2);
    }
}
