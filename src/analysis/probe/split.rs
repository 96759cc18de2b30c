//! Which rows a probe is trained on, which are held out, and what its control learns.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{ProbeOptions, ProbeTarget};
use crate::{Error, Result};

pub(super) struct Split {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
}

impl Split {
    /// Of each class the same part is held out, and at least one row of each is trained on.
    pub fn new(target: &ProbeTarget, options: &ProbeOptions) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let groups: Vec<Vec<usize>> = match target {
            ProbeTarget::Classes { names, rows } => {
                (0..names.len()).map(|class| (0..rows.len()).filter(|&row| rows[row] == class).collect()).collect()
            }
            ProbeTarget::Numbers(rows) => vec![(0..rows.len()).collect()],
        };
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for mut group in groups {
            group.shuffle(&mut rng);
            let held_out = (group.len() as f64 * options.test_fraction).round() as usize;
            let kept = group.split_off(held_out.min(group.len().saturating_sub(1)));
            test.extend(group);
            train.extend(kept);
        }
        let least = if matches!(target, ProbeTarget::Numbers(_)) { 2 } else { 1 };
        if test.len() < least || train.len() < 2 {
            return Err(Error::msg(format!(
                "of {} rows {} would be held out and {} trained on, which is too few; give more rows, or set test_fraction(..)",
                target.len(),
                test.len(),
                train.len()
            )));
        }
        train.sort_unstable();
        test.sort_unstable();
        Ok(Self { train, test })
    }

    /// Labels that the features know nothing of: the same ones in another order, or by type one at random. The held-out
    /// rows keep their share of each class, so that the control is fair.
    pub fn shuffled(&self, target: &ProbeTarget, options: &ProbeOptions, rng: &mut StdRng) -> Result<ProbeTarget> {
        let n = target.len();
        let Some(types) = &options.control_types else {
            let mut order: Vec<usize> = (0..n).collect();
            for part in [&self.train, &self.test] {
                let mut shuffled = part.clone();
                shuffled.shuffle(rng);
                part.iter().zip(shuffled).for_each(|(&to, from)| order[to] = from);
            }
            return Ok(target.reordered(&order));
        };
        if types.len() != n {
            return Err(Error::msg(format!(
                "there are {n} rows and {} control types; each row needs one",
                types.len()
            )));
        }
        let mut of_type: HashMap<u32, usize> = HashMap::new();
        let order: Vec<usize> =
            types.iter().map(|kind| *of_type.entry(*kind).or_insert_with(|| rng.random_range(0..n))).collect();
        Ok(target.reordered(&order))
    }
}
