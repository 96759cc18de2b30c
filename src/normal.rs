//! Normally distributed random numbers.

use rand::Rng;
use rand::rngs::StdRng;

/// A number of mean 0 and deviation 1, by Box and Muller's way from uniform to normal.
pub(crate) fn normal(rng: &mut StdRng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
