//! Which token of one prompt stands for which of the other.

use crate::Result;
use crate::tokens::Tokens;

/// Two prompts' tokens side by side: a token of each, or of one alone where the other has nothing for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    places: Vec<(Option<usize>, Option<usize>)>,
    texts: [Vec<String>; 2],
    ids: [Vec<u32>; 2],
}

impl Alignment {
    /// Token by token where both have equally many; otherwise by the fewest changes that make one of the other
    /// (Levenshtein 1966), a replaced token standing for the one that replaces it.
    pub(super) fn of(a: &Tokens, b: &Tokens) -> Result<Self> {
        let ids = [a.ids()[0].clone(), b.ids()[0].clone()];
        let places = match ids[0].len() == ids[1].len() {
            true => (0..ids[0].len()).map(|pos| (Some(pos), Some(pos))).collect(),
            false => fewest_changes(&ids[0], &ids[1]),
        };
        Ok(Self { places, texts: [a.str_tokens(0)?, b.str_tokens(0)?], ids })
    }

    /// Every place in order: the position in the first prompt and in the second.
    pub fn places(&self) -> &[(Option<usize>, Option<usize>)] {
        &self.places
    }

    /// The places where both have a token: these are compared.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        self.places.iter().filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect()
    }

    /// A name for each pair: the token, or both where they are different (` happy| angry`).
    pub fn labels(&self) -> Vec<String> {
        let label = |(a, b): (usize, usize)| match self.ids[0][a] == self.ids[1][b] {
            true => self.texts[0][a].clone(),
            false => format!("{}|{}", self.texts[0][a], self.texts[1][b]),
        };
        self.pairs().into_iter().map(label).collect()
    }

    /// Which of the pairs are of different tokens.
    pub fn different(&self) -> Vec<usize> {
        let is_different = |(a, b): &(usize, usize)| self.ids[0][*a] != self.ids[1][*b];
        self.pairs().iter().enumerate().filter(|(_, pair)| is_different(pair)).map(|(i, _)| i).collect()
    }

    /// The tokens' texts, of one prompt and of the other.
    pub fn texts(&self) -> [&[String]; 2] {
        [&self.texts[0], &self.texts[1]]
    }
}

/// The cheapest way from `a` to `b` when putting in, leaving out and replacing cost 1 each. Of equally cheap ways the one
/// that keeps tokens together at the end, where what follows from a difference shows.
fn fewest_changes(a: &[u32], b: &[u32]) -> Vec<(Option<usize>, Option<usize>)> {
    let width = b.len() + 1;
    let mut cost = vec![0usize; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            cost[i * width + j] = match (i, j) {
                (0, _) | (_, 0) => i + j,
                _ => {
                    let replaced = cost[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    replaced.min(1 + cost[(i - 1) * width + j]).min(1 + cost[i * width + j - 1])
                }
            };
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let mut places = Vec::new();
    while i > 0 || j > 0 {
        let here = cost[i * width + j];
        if i > 0 && j > 0 && here == cost[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]) {
            (i, j) = (i - 1, j - 1);
            places.push((Some(i), Some(j)));
        } else if i > 0 && here == 1 + cost[(i - 1) * width + j] {
            i -= 1;
            places.push((Some(i), None));
        } else {
            j -= 1;
            places.push((None, Some(j)));
        }
    }
    places.reverse();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(a: &[u32], b: &[u32]) -> Vec<(usize, usize)> {
        let places = fewest_changes(a, b);
        // Each token of both stands in it once, in order.
        let firsts: Vec<usize> = places.iter().filter_map(|(a, _)| *a).collect();
        let seconds: Vec<usize> = places.iter().filter_map(|(_, b)| *b).collect();
        assert_eq!((firsts, seconds), ((0..a.len()).collect(), (0..b.len()).collect()));
        places.iter().filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect()
    }

    #[test]
    fn what_is_put_in_or_left_out_stands_alone() {
        assert_eq!(pairs(&[1, 2, 3], &[1, 9, 2, 3]), [(0, 0), (1, 2), (2, 3)]);
        assert_eq!(pairs(&[1, 2, 3, 4], &[1, 4]), [(0, 0), (3, 1)]);
        assert_eq!(pairs(&[], &[1]), []);
        // Replaced, and one more put in: the last tokens stay together.
        assert_eq!(pairs(&[1, 5, 3], &[1, 6, 7, 3]), [(0, 0), (1, 2), (2, 3)]);
    }
}
