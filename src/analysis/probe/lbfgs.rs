//! Minimising a smooth convex function (Nocedal and Wright 2006, algorithm 7.5).

use crate::{Error, Result, interrupt};

/// Steps that are remembered.
const MEMORY: usize = 12;
/// How much a step must lower the function, and how much its slope, both relative to the slope at its start.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;

/// Where a function is smallest.
pub(super) struct Minimum {
    pub x: Vec<f64>,
    /// The largest entry of the gradient there, by magnitude.
    pub gradient: f64,
    pub iterations: usize,
}

/// Goes downhill from `x` until no entry of the gradient is larger than `tolerance`. `f` gives value and gradient.
pub(super) fn minimize(
    mut x: Vec<f64>,
    f: impl Fn(&[f64]) -> (f64, Vec<f64>),
    tolerance: f64,
    max_iterations: usize,
) -> Result<Minimum> {
    let (mut value, mut gradient) = f(&x);
    // Pairs of a step and the change of the gradient along it.
    let mut steps: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    for iterations in 0..=max_iterations {
        interrupt::check()?;
        let size = gradient.iter().fold(0f64, |size, g| size.max(g.abs()));
        if size <= tolerance {
            return Ok(Minimum { x, gradient: size, iterations });
        }
        let mut direction = downhill(&gradient, &steps);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            steps.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&direction, &gradient);
        }
        let first = if steps.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let Some((step, new_value, new_gradient)) = line_search(&x, value, slope, &direction, first, &f) else { break };
        let moved: Vec<f64> = direction.iter().map(|d| step * d).collect();
        let changed: Vec<f64> = new_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        x.iter_mut().zip(&moved).for_each(|(x, moved)| *x += moved);
        if dot(&moved, &changed) > 0.0 {
            steps.push((moved, changed));
            if steps.len() > MEMORY {
                steps.remove(0);
            }
        }
        (value, gradient) = (new_value, new_gradient);
    }
    let size = gradient.iter().fold(0f64, |size, g| size.max(g.abs()));
    Err(Error::msg(format!(
        "the probe did not converge: its gradient is still {size:.1e}, and {tolerance:.1e} was asked for; raise l2(..) or \
         tolerance(..), or look for features of extreme size"
    )))
}

/// Minus the gradient, seen through the curvature along past steps.
fn downhill(gradient: &[f64], steps: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut parts = Vec::new();
    for (moved, changed) in steps.iter().rev() {
        let part = dot(moved, &q) / dot(moved, changed);
        q.iter_mut().zip(changed).for_each(|(q, changed)| *q -= part * changed);
        parts.push(part);
    }
    if let Some((moved, changed)) = steps.last() {
        let scale = dot(moved, changed) / dot(changed, changed);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, changed), part) in steps.iter().zip(parts.into_iter().rev()) {
        let back = dot(changed, &q) / dot(moved, changed);
        q.iter_mut().zip(moved).for_each(|(q, moved)| *q += (part - back) * moved);
    }
    q.iter().map(|q| -q).collect()
}

/// A step length that satisfies the Wolfe conditions, found by bisection (Lewis and Overton 2013). Close to the minimum the
/// function's own digits run out before its slope's; there the slope decides (Hager and Zhang 2005).
fn line_search(
    x: &[f64],
    value: f64,
    slope: f64,
    direction: &[f64],
    mut step: f64,
    f: &impl Fn(&[f64]) -> (f64, Vec<f64>),
) -> Option<(f64, f64, Vec<f64>)> {
    let (mut low, mut high) = (0.0, f64::INFINITY);
    for _ in 0..60 {
        let at: Vec<f64> = x.iter().zip(direction).map(|(x, d)| x + step * d).collect();
        let (new_value, new_gradient) = f(&at);
        let new_slope = dot(&new_gradient, direction);
        let lower = new_value <= value + DECREASE * step * slope
            || (new_value <= value + 1e-12 * value.abs() && new_slope <= (2.0 * DECREASE - 1.0) * slope);
        if !lower {
            high = step;
        } else if new_slope < CURVATURE * slope {
            low = step;
        } else {
            return Some((step, new_value, new_gradient));
        }
        step = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * low };
    }
    None
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_valley_is_followed_to_its_end() {
        // Curvatures from 1 to 10000; the minimum is at 1, 2, 3, ..
        let f = |x: &[f64]| {
            let scale = |i: usize| 10f64.powi(i as i32);
            let value = x.iter().enumerate().map(|(i, x)| scale(i) * (x - i as f64 - 1.0).powi(2) / 2.0).sum();
            (value, x.iter().enumerate().map(|(i, x)| scale(i) * (x - i as f64 - 1.0)).collect())
        };
        let minimum = minimize(vec![0.0; 5], f, 1e-9, 200).unwrap();
        for (i, x) in minimum.x.iter().enumerate() {
            assert!((x - i as f64 - 1.0).abs() < 1e-8, "{:?}", minimum.x);
        }
        assert!(minimum.gradient <= 1e-9 && minimum.iterations < 100);
        assert!(minimize(vec![0.0; 5], f, 1e-9, 2).err().unwrap().to_string().contains("did not converge"));
    }
}
