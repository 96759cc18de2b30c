//! Transformer arithmetic written out on plain numbers, to check the library against something that shares none of it.

use candlescope::prelude::*;

/// Rows of numbers: one row for each position, or for each output of a linear layer.
pub type Rows = Vec<Vec<f64>>;

/// A tensor's numbers, `[rows, columns]`; a vector is one row.
pub fn rows(tensor: &Tensor) -> Rows {
    let tensor = if tensor.rank() == 1 { tensor.unsqueeze(0).unwrap() } else { tensor.clone() };
    let rows: Vec<Vec<f32>> = tensor.to_dtype(DType::F32).unwrap().to_vec2().unwrap();
    rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
}

pub fn transposed(w: &Rows) -> Rows {
    (0..w[0].len()).map(|column| w.iter().map(|row| row[column]).collect()).collect()
}

/// x W^T + b, with W as torch stores it: a row for each output.
pub fn linear(x: &Rows, w: &Rows, b: Option<&Rows>) -> Rows {
    let output = |row: &Vec<f64>, out: usize| {
        let product: f64 = row.iter().zip(&w[out]).map(|(x, w)| x * w).sum();
        product + b.map_or(0.0, |b| b[0][out])
    };
    x.iter().map(|row| (0..w.len()).map(|out| output(row, out)).collect()).collect()
}

/// (x - mean) / sqrt(variance + 1e-5), times w, plus b.
pub fn layer_norm(x: &Rows, w: Option<&Rows>, b: Option<&Rows>) -> Rows {
    let norm = |row: &Vec<f64>| -> Vec<f64> {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let scale = (variance + 1e-5).sqrt();
        let affine =
            |(i, x): (usize, &f64)| (x - mean) / scale * w.map_or(1.0, |w| w[0][i]) + b.map_or(0.0, |b| b[0][i]);
        row.iter().enumerate().map(affine).collect()
    };
    x.iter().map(norm).collect()
}

/// x / sqrt(mean square + 1e-5), times w.
pub fn rms_norm(x: &Rows, w: &Rows) -> Rows {
    let norm = |row: &Vec<f64>| -> Vec<f64> {
        let scale = (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64 + 1e-5).sqrt();
        row.iter().zip(&w[0]).map(|(x, w)| x / scale * w).collect()
    };
    x.iter().map(norm).collect()
}

/// x cut to the range from -limit to limit.
pub fn clip(x: &Rows, limit: f64) -> Rows {
    map(x, |x| x.clamp(-limit, limit))
}

pub fn add(x: &Rows, y: &Rows) -> Rows {
    x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| x + y).collect()).collect()
}

pub fn map(x: &Rows, f: impl Fn(f64) -> f64) -> Rows {
    x.iter().map(|row| row.iter().map(|x| f(*x)).collect()).collect()
}

/// Columns from `start` on, as many as `width`.
pub fn columns(x: &Rows, start: usize, width: usize) -> Rows {
    x.iter().map(|row| row[start..start + width].to_vec()).collect()
}

pub fn softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// Causal attention of one head: `score` makes a score of (q·k, query, key).
pub fn attend(q: &Rows, k: &Rows, v: &Rows, score: impl Fn(f64, usize, usize) -> f64) -> Rows {
    let query = |i: usize| -> Vec<f64> {
        let dot = |j: usize| q[i].iter().zip(&k[j]).map(|(q, k)| q * k).sum::<f64>();
        let pattern = softmax(&(0..=i).map(|j| score(dot(j), i, j)).collect::<Vec<_>>());
        (0..v[0].len()).map(|c| pattern.iter().enumerate().map(|(j, p)| p * v[j][c]).sum()).collect()
    };
    (0..q.len()).map(query).collect()
}

/// The heads' results side by side.
pub fn beside(heads: Vec<Rows>) -> Rows {
    (0..heads[0].len()).map(|i| heads.iter().flat_map(|head| head[i].clone()).collect()).collect()
}

/// The first `dim` columns turned in pairs (i, i + dim / 2) by position times base^(-2i / dim).
pub fn rotate(x: &Rows, dim: usize, base: f64) -> Rows {
    let half = dim / 2;
    let turn = |(pos, row): (usize, &Vec<f64>)| {
        let mut turned = row.clone();
        for i in 0..half {
            let (sin, cos) = (pos as f64 * base.powf(-2.0 * i as f64 / dim as f64)).sin_cos();
            turned[i] = row[i] * cos - row[i + half] * sin;
            turned[i + half] = row[i + half] * cos + row[i] * sin;
        }
        turned
    };
    x.iter().enumerate().map(turn).collect()
}

/// x·Φ(x), with the tanh approximation of GPT-2.
pub fn gelu_new(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
