//! One named place in a forward pass.

use std::fmt;
use std::sync::Arc;

/// A place in a forward pass that an activation goes through, named as in TransformerLens.
///
/// ```
/// use candlescope::hooks::HookPoint;
/// let point = HookPoint::new("blocks.3.attn.hook_pattern");
/// assert_eq!(point.layer(), Some(3));
/// assert!(point.is("pattern"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookPoint {
    name: Arc<str>,
    layer: Option<usize>,
}

impl HookPoint {
    /// The point of this full name; the layer is the number after `blocks.`, if there is one.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        let layer = name.split('.').find_map(|part| part.parse().ok());
        Self { name, layer }
    }

    /// The full name, as in `blocks.3.attn.hook_pattern`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The layer that it lies in; none for the embedding, the final norm and the unembedding.
    pub fn layer(&self) -> Option<usize> {
        self.layer
    }

    /// The last part of the name without `hook_`: `pattern`, `resid_pre`, `scale`.
    pub fn short_name(&self) -> &str {
        let last = self.name.rsplit('.').next().unwrap_or(&self.name);
        last.strip_prefix("hook_").unwrap_or(last)
    }

    /// Whether this is the point `name` of its layer, given with or without `hook_` and with or without its
    /// module: `is("pattern")`, `is("hook_pattern")`, `is("ln1.hook_scale")`, `is("ln1.scale")`.
    pub fn is(&self, name: &str) -> bool {
        let (module, last) = name.rsplit_once('.').map_or((None, name), |(module, last)| (Some(module), last));
        let last = last.strip_prefix("hook_").unwrap_or(last);
        self.short_name() == last
            && module.is_none_or(|module| {
                let own = self.name.rsplit_once('.').map_or("", |(own, _)| own);
                own == module || own.ends_with(&format!(".{module}"))
            })
    }

    /// This point inside of a module, whose name ends with a dot.
    pub(super) fn within(&self, module: &str) -> Self {
        Self::new(format!("{module}{}", self.name))
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }
}

impl From<&str> for HookPoint {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for HookPoint {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&HookPoint> for HookPoint {
    fn from(point: &HookPoint) -> Self {
        point.clone()
    }
}

impl fmt::Debug for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A hook point of a model, with what can be said of it before a run.
#[derive(Clone, Debug)]
pub struct PointInfo {
    /// Its name and layer.
    pub point: HookPoint,
    /// The axes of its activation, as in `[batch, pos, d_model]`.
    pub shape: &'static str,
    /// When an activation goes through it.
    pub fires: Fires,
}

impl PointInfo {
    pub(crate) fn always(point: &HookPoint, shape: &'static str) -> Self {
        Self { point: point.clone(), shape, fires: Fires::Always }
    }

    pub(crate) fn on_request(point: &HookPoint, shape: &'static str) -> Self {
        Self { point: point.clone(), shape, fires: Fires::OnRequest }
    }

    pub(crate) fn never(name: impl Into<Arc<str>>, why: impl Into<String>) -> Self {
        Self { point: HookPoint::new(name), shape: "", fires: Fires::Never(why.into()) }
    }
}

/// When a hook point fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fires {
    /// In every run.
    Always,
    /// Only when a hook or a cache asks for it by name, since it costs extra work or memory.
    OnRequest,
    /// Never in this model, for this reason; TransformerLens has the name in others.
    Never(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_with_and_without_their_module() {
        let scale = HookPoint::new("blocks.2.ln1.hook_scale");
        assert!(scale.is("scale") && scale.is("hook_scale") && scale.is("ln1.scale") && scale.is("ln1.hook_scale"));
        assert!(!scale.is("ln2.scale") && !scale.is("n1.scale") && !scale.is("cale"));
        assert_eq!(scale.short_name(), "scale");
        assert_eq!(HookPoint::new("hook_embed").layer(), None);
        assert!(HookPoint::new("hook_embed").is("embed"));
    }
}
