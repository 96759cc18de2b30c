//! Walking through a tree of weights: each group names its tensors once, and listing, moving and converting follow.

use candle_core::Tensor;

/// A tensor, or a group of them.
pub(crate) trait Parts {
    /// Adds every tensor, under `name` and its own name within the group.
    fn parts<'a>(&'a mut self, name: &str, found: &mut Vec<(String, &'a mut Tensor)>);
}

impl Parts for Tensor {
    fn parts<'a>(&'a mut self, name: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
        found.push((name.to_string(), self));
    }
}

impl<T: Parts> Parts for Option<T> {
    fn parts<'a>(&'a mut self, name: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
        if let Some(there) = self {
            there.parts(name, found);
        }
    }
}

impl<T: Parts> Parts for Box<T> {
    fn parts<'a>(&'a mut self, name: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
        (**self).parts(name, found);
    }
}

impl<T: Parts> Parts for Vec<T> {
    fn parts<'a>(&'a mut self, name: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
        for (index, part) in self.iter_mut().enumerate() {
            part.parts(&join(name, &index.to_string()), found);
        }
    }
}

/// `group.name`; either may be empty.
pub(crate) fn join(group: &str, name: &str) -> String {
    if group.is_empty() || name.is_empty() { format!("{group}{name}") } else { format!("{group}.{name}") }
}

/// Implements [`Parts`] for a struct: its fields with the names of their tensors, in order.
macro_rules! parts {
    ($group:ident { $($field:ident => $name:literal),* $(,)? }) => {
        impl $crate::weights::parts::Parts for $group {
            fn parts<'a>(&'a mut self, name: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
                $(self.$field.parts(&$crate::weights::parts::join(name, $name), found);)*
            }
        }
    };
}

pub(crate) use parts;
