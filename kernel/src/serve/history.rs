//! What was run in this kernel, for consoles that offer it again.

use jupyter_protocol::{HistoryEntry, HistoryReply, HistoryRequest};

/// The cells of this session with their numbers, in order.
#[derive(Debug, Default)]
pub struct History(Vec<(usize, String)>);

impl History {
    pub fn add(&mut self, count: usize, code: &str) {
        self.0.push((count, code.to_string()));
    }

    /// Only this session is known: others are empty.
    pub fn answer(&self, request: &HistoryRequest) -> HistoryReply {
        let last = |n: i32| self.0.len().saturating_sub(usize::try_from(n).unwrap_or(usize::MAX));
        let (cells, output): (Vec<&(usize, String)>, bool) = match request {
            HistoryRequest::Tail { n, output, .. } => (self.0[last(*n)..].iter().collect(), *output),
            HistoryRequest::Range { session, start, stop, output, .. } => {
                let within = |count: usize| {
                    let count = i32::try_from(count).unwrap_or(i32::MAX);
                    count >= *start && (count < *stop || *stop <= 0)
                };
                let this = session.is_none_or(|session| session == 0);
                (self.0.iter().filter(|(count, _)| this && within(*count)).collect(), *output)
            }
            HistoryRequest::Search { pattern, unique, output, n, .. } => {
                let mut found: Vec<&(usize, String)> = Vec::new();
                for cell in self.0.iter().rev().filter(|(_, code)| matches(pattern, code)) {
                    if !*unique || found.iter().all(|(_, code)| *code != cell.1) {
                        found.push(cell);
                    }
                }
                found.truncate(usize::try_from(*n).ok().filter(|n| *n > 0).unwrap_or(usize::MAX));
                found.reverse();
                (found, *output)
            }
        };
        let entry = |(count, code): &(usize, String)| match output {
            true => HistoryEntry::InputOutput(0, *count, (code.clone(), String::new())),
            false => HistoryEntry::Input(0, *count, code.clone()),
        };
        HistoryReply { history: cells.into_iter().map(entry).collect(), ..Default::default() }
    }
}

/// Whether the whole text fits a pattern, in which `*` stands for any text and `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where the last star stood, and how much of the text it has taken.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(reply: HistoryReply) -> Vec<String> {
        let input = |entry| match entry {
            HistoryEntry::Input(_, _, code) => code,
            HistoryEntry::InputOutput(_, _, (code, _)) => code,
        };
        reply.history.into_iter().map(input).collect()
    }

    #[test]
    fn cells_are_found_again() {
        let mut history = History::default();
        for (i, code) in ["let a = 1;", "a", "let b = 2;", "a"].iter().enumerate() {
            history.add(i + 1, code);
        }
        let (output, raw) = (false, true);
        let tail = HistoryRequest::Tail { n: 2, output, raw };
        assert_eq!(inputs(history.answer(&tail)), ["let b = 2;", "a"]);
        let range = HistoryRequest::Range { session: Some(0), start: 1, stop: 3, output, raw };
        assert_eq!(inputs(history.answer(&range)), ["let a = 1;", "a"]);
        let search =
            |pattern: &str, unique| HistoryRequest::Search { pattern: pattern.into(), unique, output, raw, n: 10 };
        assert_eq!(inputs(history.answer(&search("let ?*", false))), ["let a = 1;", "let b = 2;"]);
        assert_eq!(inputs(history.answer(&search("*a", true))), ["a"]);
        assert_eq!(inputs(history.answer(&search("*a", false))), ["a", "a"]);
    }

    #[test]
    fn patterns_are_those_of_files() {
        assert!(matches("*", "") && matches("a*c", "abbc") && matches("*bb*", "abbc"));
        assert!(!matches("a", "ab") && !matches("?", ""));
    }
}
