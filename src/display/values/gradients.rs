//! How gradients look.

use crate::analysis::Gradients;
use crate::display::{Bundle, Show, number};

/// A table of every gradient, below the metric's value.
impl Show for Gradients {
    fn bundle(&self) -> Bundle {
        let value = format!("Gradients of the {}, which is {}", self.metric(), number(self.value().into()));
        Bundle::stack(&[Bundle::text(value), self.grads().bundle()])
    }
}
