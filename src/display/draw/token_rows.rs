//! Tokenizations one below the other: a character has the same place in every row, so that the cuts can be compared.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::scene::{Align, SMALL, Scene};
use crate::display::escape;
use crate::tokens::{TokenPiece, Tokenization};

pub(crate) const WIDTH: usize = 640;
/// How many tokens of each tokenizer are drawn, and how many tokenizers.
pub(crate) const MAX_PIECES: usize = 400;
pub(crate) const MAX_ROWS: usize = 8;
/// A much higher picture would be cut.
const MAX_LINES: usize = 110;
/// How many tokens in front of the text are drawn.
const MAX_FRONT: usize = 3;
/// The width of a character; of a byte, where a character is cut.
const CELL: usize = 14;
const HEIGHT: f64 = 34.0;
const BORDER: Rgb = Rgb(140, 149, 159);

/// A tokenization, and where it cuts its text.
pub(crate) struct LinedUp<'a> {
    tokenization: &'a Tokenization,
    /// The text, without a space in front that only this tokenizer puts there.
    text: Vec<u8>,
    /// The length of that space: 0 or 1.
    lead: usize,
    /// Where in the text one token ends and the next one begins, in bytes.
    cuts: BTreeSet<usize>,
}

/// How two tokenizers cut the same text.
pub(crate) struct Comparison {
    pub shared: usize,
    pub only_first: usize,
    pub only_second: usize,
}

pub(crate) fn line_up(tokenizations: &[Tokenization]) -> Vec<LinedUp<'_>> {
    let text = |one: &Tokenization| one.body().iter().flat_map(|piece| piece.bytes.clone()).collect::<Vec<u8>>();
    let texts: Vec<Vec<u8>> = tokenizations.iter().map(text).collect();
    let mut rows = Vec::new();
    for (tokenization, text) in tokenizations.iter().zip(&texts) {
        let rest = text.strip_prefix(b" ");
        let lead = usize::from(rest.is_some_and(|rest| texts.iter().any(|other| other.as_slice() == rest)));
        let mut cuts = BTreeSet::new();
        let mut at = 0;
        for piece in tokenization.body() {
            at += piece.bytes.len();
            if at > lead && at < text.len() {
                cuts.insert(at - lead);
            }
        }
        let text = text.get(lead..).unwrap_or_default().to_vec();
        rows.push(LinedUp { tokenization, text, lead, cuts });
    }
    rows
}

impl LinedUp<'_> {
    /// `None` when the two texts differ.
    pub fn compare(&self, other: &LinedUp<'_>) -> Option<Comparison> {
        let shared = self.cuts.intersection(&other.cuts).count();
        let (only_first, only_second) = (self.cuts.len() - shared, other.cuts.len() - shared);
        (self.text == other.text).then_some(Comparison { shared, only_first, only_second })
    }
}

/// The colour of a token: yellow for a special one, orange for a part of a character, two quiet ones in turn.
pub(crate) fn fill(piece: &TokenPiece) -> Rgb {
    match piece.position.is_multiple_of(2) {
        _ if piece.special.is_some() => Rgb(255, 236, 179),
        _ if piece.is_partial() => Rgb(255, 209, 163),
        true => Rgb(234, 242, 250),
        false => Rgb(250, 243, 230),
    }
}

/// Bytes as `f0 9f`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Draws the rows in bands from `top` on, under their names where there are several. Says where the picture ends, and
/// whether every token is in it.
pub(crate) fn draw(scene: &mut Scene, top: f64, lined: &[LinedUp<'_>], names: &[String]) -> (f64, bool) {
    let rows = rows(lined);
    let names: Vec<String> = names.iter().map(|name| font::fit(&font::drawable(name), SMALL, 100.0)).collect();
    let name_width = names.iter().take(rows.len()).map(|name| font::width(name, SMALL)).fold(0.0, f64::max);
    let left = if rows.len() > 1 { name_width.ceil() as usize + 8 } else { 0 };
    let fronts = rows.iter().map(Row::front_width).max().unwrap_or(0);

    let bands = bands(&rows, WIDTH.saturating_sub(left + fronts), WIDTH.saturating_sub(left));
    let mut y = top;
    for (i, band) in bands.iter().enumerate() {
        let start = if i == 0 { left + fronts } else { left };
        for (row, name) in rows.iter().zip(&names) {
            if rows.len() > 1 {
                scene.ink(0.0, y + HEIGHT / 2.0, name, SMALL, Align::Left, Rgb::FAINT);
            }
            if i == 0 {
                row.draw_front(scene, start - row.front_width(), y);
            }
            row.draw_band(scene, band, start, y);
            y += HEIGHT + 4.0;
        }
        y += 8.0;
    }
    let drawn = bands.last().map_or(0, |band| band.end);
    let whole = rows.iter().all(|row| row.is_whole && row.end() <= drawn)
        && lined.iter().all(|one| one.tokenization.front().len() <= MAX_FRONT);
    (y, whole)
}

/// A tokenization with its places in pixels, counted from where the text of all rows begins.
struct Row<'a> {
    front: &'a [TokenPiece],
    /// The text's tokens and those behind it.
    pieces: Vec<&'a TokenPiece>,
    /// Where each byte begins, and where the last one ends.
    places: Vec<usize>,
    /// Where tokens end.
    ends: BTreeSet<usize>,
    /// Whether these are all.
    is_whole: bool,
}

fn rows<'a>(lined: &[LinedUp<'a>]) -> Vec<Row<'a>> {
    let margin = if lined.iter().any(|row| row.lead > 0) { CELL } else { 0 };
    let row = |row: &LinedUp<'a>| {
        // A character that one row cuts is wide enough for its bytes in all rows.
        let same = lined.iter().filter(|other| other.text == row.text);
        let cuts: BTreeSet<usize> = same.flat_map(|other| other.cuts.iter().copied()).collect();
        let behind = row.tokenization.behind();
        let mut text = row.text.clone();
        text.extend(behind.iter().flat_map(|piece| piece.bytes.iter().copied()));
        let mut places = vec![0; row.lead];
        places.extend(byte_places(&text, &cuts, margin));

        let all = row.tokenization.body().len() + behind.len();
        let pieces: Vec<&'a TokenPiece> = row.tokenization.body().iter().chain(behind).take(MAX_PIECES).collect();
        let mut ends: BTreeSet<usize> = BTreeSet::new();
        let mut at = 0;
        for piece in &pieces {
            at += piece.bytes.len();
            ends.extend(places.get(at));
        }
        let front = row.tokenization.front();
        let is_whole = pieces.len() == all;
        Row { front: front.get(..MAX_FRONT).unwrap_or(front), pieces, places, ends, is_whole }
    };
    lined.iter().take(MAX_ROWS).map(row).collect()
}

/// Where each byte begins, and where the last one ends. The bytes of a character that nobody cuts all begin with it.
fn byte_places(text: &[u8], cuts: &BTreeSet<usize>, start: usize) -> Vec<usize> {
    let mut places = vec![start];
    let mut x = start;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let (at, bytes) = (places.len() - 1, c.len_utf8());
            let is_cut = cuts.range(at + 1..at + bytes).next().is_some();
            let width = if is_cut { char_width(c).max(bytes * CELL) } else { char_width(c) };
            places.extend((1..bytes).map(|byte| if is_cut { x + width * byte / bytes } else { x }));
            x += width;
            places.push(x);
        }
        for _ in chunk.invalid() {
            x += CELL;
            places.push(x);
        }
    }
    places
}

/// Wide enough for what the picture writes: `U+1F600` where the font lacks the character.
fn char_width(c: char) -> usize {
    if matches!(c, ' '..='~') {
        return CELL;
    }
    let shown = font::drawable(&escape::visible(&c.to_string()));
    (font::width(&shown, SMALL).ceil() as usize + 3).max(CELL)
}

/// The parts into which the rows are broken, `first` and then `later` pixels wide at most. Where all rows have a cut in
/// the second half of a band, it ends there.
fn bands(rows: &[Row<'_>], first: usize, later: usize) -> Vec<Range<usize>> {
    let Some(longest) = rows.iter().max_by_key(|row| row.end()) else { return Vec::new() };
    let end = rows.iter().filter(|row| !row.is_whole).map(Row::end).fold(longest.end(), usize::min);
    let most = (MAX_LINES / rows.len()).max(1);
    let mut bands: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    // An empty text has a band too: for what stands in front of it.
    while bands.is_empty() || (from < end && bands.len() < most) {
        let room = if bands.is_empty() { first } else { later };
        let to = if end - from <= room { end } else { band_end(rows, longest, from, room) };
        bands.push(from..to);
        from = to;
    }
    bands
}

fn band_end(rows: &[Row<'_>], longest: &Row<'_>, from: usize, room: usize) -> usize {
    let limit = from + room;
    let is_shared = |x: usize| rows.iter().all(|row| row.ends.contains(&x) || row.end() <= x);
    let shared = longest.ends.range(from + room / 2 + 1..=limit).rev().copied().find(|x| is_shared(*x));
    let character = longest.places.partition_point(|x| *x <= limit).checked_sub(1);
    let character = character.and_then(|last| longest.places.get(last)).copied().filter(|x| *x > from);
    shared.or(character).unwrap_or(limit)
}

impl Row<'_> {
    fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn front_width(&self) -> usize {
        self.front.iter().map(front_width).sum()
    }

    fn draw_front(&self, scene: &mut Scene, left: usize, y: f64) {
        let mut x = left;
        for piece in self.front {
            let width = front_width(piece);
            draw_box(scene, x..x + width, y, piece, &front_label(piece), SMALL, &piece.id.to_string());
            x += width;
        }
    }

    /// The tokens in a band; of a token that goes beyond it, the part inside.
    fn draw_band(&self, scene: &mut Scene, band: &Range<usize>, start: usize, y: f64) {
        let mut at = 0;
        for piece in &self.pieces {
            let bytes = at..at + piece.bytes.len();
            at = bytes.end;
            let (Some(from), Some(to)) = (self.places.get(bytes.start), self.places.get(bytes.end)) else { continue };
            let (left, right) = (*from.max(&band.start), *to.min(&band.end));
            if left >= right {
                continue;
            }
            let first = self.byte_at(left).saturating_sub(bytes.start);
            let last = self.byte_at(right).min(bytes.end).saturating_sub(bytes.start);
            let part = piece.bytes.get(first..last).unwrap_or_default();
            let (label, size) = match std::str::from_utf8(part) {
                Ok(text) => (font::drawable(&escape::visible(text)), SMALL),
                Err(_) => (hex(part), 8.0),
            };
            let id = if *from < band.start { "…".to_string() } else { piece.id.to_string() };
            let place = start + left - band.start..start + right - band.start;
            draw_box(scene, place, y, piece, &label, size, &id);
        }
    }

    /// The first byte that stands at `x` or behind it.
    fn byte_at(&self, x: usize) -> usize {
        self.places.partition_point(|place| *place < x)
    }
}

fn front_label(piece: &TokenPiece) -> String {
    font::fit(&font::drawable(&escape::shorten(&escape::visible(&piece.text), 40)), SMALL, 100.0)
}

fn front_width(piece: &TokenPiece) -> usize {
    let wide = font::width(&front_label(piece), SMALL).max(font::width(&piece.id.to_string(), 9.0));
    wide.ceil() as usize + 6
}

/// A box with its border inside of `place`; the id is left out where there is no room for it.
fn draw_box(scene: &mut Scene, place: Range<usize>, y: f64, piece: &TokenPiece, label: &str, size: f64, id: &str) {
    let (x, width) = (place.start as f64, place.len() as f64);
    let (inner, middle) = ((width - 3.0).max(1.0), x + (width - 1.0) / 2.0);
    let fill = fill(piece);
    scene.rect(x + 1.0, y, inner, HEIGHT, fill);
    scene.frame(x + 1.0, y, inner, HEIGHT, BORDER);
    scene.ink(middle, y + 11.0, &font::fit(label, size, width - 2.0), size, Align::Center, fill.ink());
    if let Some(size) = [9.0, 8.0, 7.0].into_iter().find(|size| font::width(id, *size) <= width - 2.0) {
        scene.ink(middle, y + 26.0, id, size, Align::Center, fill.ink());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::display::draw::scene::Mark;
    use crate::model::HookedTransformer;
    use crate::tokens::{SpecialTokens, Tokenizer};

    fn gpt2() -> Tokenizer {
        Tokenizer::gpt2().unwrap()
    }

    fn tiny() -> Tokenizer {
        HookedTransformer::from_pretrained("tiny").unwrap().tokenizer().unwrap().clone()
    }

    /// As SentencePiece: a space before the first word. One of its words is long.
    fn spacing() -> Tokenizer {
        let long = format!("▁{}", "x".repeat(100));
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": metaspace, "post_processor": null, "decoder": metaspace,
            "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "▁Hi": 1, "▁Claire": 2, long: 3}}
        });
        let hf = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        Tokenizer::from_tokenizers(hf, SpecialTokens::new()).unwrap()
    }

    fn drawn(tokenizations: &[Tokenization]) -> (Scene, bool) {
        let mut scene = Scene::default();
        let names = vec!["a name".to_string(); tokenizations.len()];
        let (_, whole) = draw(&mut scene, 0.0, &line_up(tokenizations), &names);
        (scene, whole)
    }

    /// The boxes as left, top, right, bottom.
    fn boxes(scene: &Scene) -> Vec<(f64, f64, f64, f64)> {
        let of = |mark: &Mark| match mark {
            Mark::Rect { x, y, w, h, .. } if *h == HEIGHT && *w > 1.0 => Some((*x, *y, x + w, y + h)),
            _ => None,
        };
        scene.marks.iter().filter_map(of).collect()
    }

    #[test]
    fn characters_have_their_places() {
        let text = "aéb".as_bytes();
        assert_eq!(byte_places(text, &BTreeSet::new(), 0), [0, 14, 14, 28, 42]);
        assert_eq!(byte_places(text, &BTreeSet::from([2]), 14), [14, 28, 42, 56, 70]);
        assert_eq!(byte_places(b"a\xff\xfe", &BTreeSet::new(), 0), [0, 14, 28, 42]);
        assert_eq!(byte_places(b"", &BTreeSet::new(), 0), [0]);
        assert!(char_width('語') > CELL && char_width('\u{202e}') > CELL);
    }

    #[test]
    fn cuts_are_counted() {
        let text = "Claire admired transformers";
        let both = [gpt2().inspect(text).unwrap(), tiny().inspect(text).unwrap()];
        let lined = line_up(&both);
        let compared = lined[0].compare(&lined[1]).unwrap();
        assert_eq!(compared.shared + compared.only_first, both[0].body().len() - 1);
        assert_eq!(compared.shared + compared.only_second, both[1].body().len() - 1);
        assert!(compared.only_second > compared.only_first);
        let other = [gpt2().inspect("Hi").unwrap(), gpt2().inspect("Ho").unwrap()];
        let other = line_up(&other);
        assert!(other[0].compare(&other[1]).is_none());
    }

    #[test]
    fn a_space_that_one_tokenizer_adds_stands_outside() {
        let both = [gpt2().inspect("Hi Claire").unwrap(), spacing().inspect("Hi Claire").unwrap()];
        let lined = line_up(&both);
        assert_eq!(lined[1].text, b"Hi Claire");
        let compared = lined[0].compare(&lined[1]).unwrap();
        assert_eq!((compared.shared, compared.only_first, compared.only_second), (1, 0, 0));
        let rows = rows(&lined);
        assert_eq!((rows[0].places[0], rows[1].places[0]), (CELL, 0));
        assert_eq!(rows[0].ends, rows[1].ends);
    }

    #[test]
    fn the_same_cut_is_at_the_same_place() {
        let text = "Claire admired us";
        let plain = |tokenizer: Tokenizer| tokenizer.with_default_prepend_bos(false).inspect(text).unwrap();
        let both = [plain(gpt2()), plain(tiny())];
        let shared = {
            let lined = line_up(&both);
            lined[0].compare(&lined[1]).unwrap().shared
        };
        let boxes = boxes(&drawn(&both).0);
        let right = |row: f64| boxes.iter().filter(|b| b.1 == row).map(|b| b.2 as usize).collect::<BTreeSet<_>>();
        let (first, second) = (right(0.0), right(HEIGHT + 4.0));
        assert_eq!((first.len(), second.len()), (both[0].pieces().len(), both[1].pieces().len()));
        // The end of the text is one more.
        assert_eq!(first.intersection(&second).count(), shared + 1);
    }

    #[test]
    fn no_box_overlaps_another_or_leaves_the_picture() {
        let text =
            "naïve 😀 日本語 <|endoftext|> \0\u{202e}\n\t Claire, Mary and a longwordwithoutanyspaceinside ".repeat(4);
        let three = [gpt2().inspect(&text).unwrap(), tiny().inspect(&text).unwrap(), gpt2().inspect("other").unwrap()];
        for count in 1..=3 {
            let (scene, whole) = drawn(&three[..count]);
            let boxes = boxes(&scene);
            assert!(whole && boxes.len() >= three[..count].iter().map(|one| one.pieces().len()).sum::<usize>());
            for (i, a) in boxes.iter().enumerate() {
                assert!(a.0 >= 0.0 && a.2 <= WIDTH as f64, "{a:?}");
                let apart = |b: &(f64, f64, f64, f64)| a.2 < b.0 || b.2 < a.0 || a.3 < b.1 || b.3 < a.1;
                assert!(boxes[i + 1..].iter().all(apart), "{a:?}");
            }
        }
    }

    #[test]
    fn a_long_token_goes_on_in_the_next_band() {
        let (scene, whole) = drawn(&[spacing().inspect(&"x".repeat(100)).unwrap()]);
        assert!(whole);
        let boxes = boxes(&scene);
        assert!(boxes.len() == 3 && boxes.iter().all(|b| b.2 <= WIDTH as f64), "{boxes:?}");
        let is = |mark: &&Mark, wanted: &str| matches!(mark, Mark::Text { text, .. } if text == wanted);
        assert_eq!(scene.marks.iter().filter(|mark| is(mark, "3")).count(), 1);
        assert_eq!(scene.marks.iter().filter(|mark| is(mark, "…")).count(), 2);
    }

    #[test]
    fn a_long_text_is_drawn_in_part() {
        let (scene, whole) = drawn(&[gpt2().inspect(&" a".repeat(1000)).unwrap()]);
        assert!(!whole);
        assert_eq!(boxes(&scene).len(), MAX_PIECES + 1);
        let one = gpt2().inspect(&" Claire".repeat(390)).unwrap();
        let eight: Vec<Tokenization> = std::iter::repeat_n(one, 8).collect();
        let (scene, whole) = drawn(&eight);
        assert!(!whole);
        assert!(boxes(&scene).iter().all(|b| b.3 < 6000.0));
        assert!(drawn(&[gpt2().inspect("").unwrap()]).1);
        assert!(drawn(&[]).1);
    }
}
