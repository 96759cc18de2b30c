//! Which hook points are meant.

use std::fmt;
use std::sync::Arc;

use super::{Fires, HookPoint, PointInfo, act_name};
use crate::error::near_misses;
use crate::{Error, Result};

/// Which hook points a hook or a cache is for.
///
/// Made from a [`HookPoint`] (`pattern(5)`), a full name (`"blocks.5.attn.hook_pattern"`), a bare name for every layer
/// (`"pattern"`, `"ln1.scale"`), a name with a layer (`("pattern", 5)`, negative from the end), a list of these,
/// [`all`], or a predicate ([`matching`]).
#[derive(Clone)]
pub struct Selector(Kind);

#[derive(Clone)]
enum Kind {
    All,
    Name(String),
    Layered { name: String, layer: i64, layer_type: Option<String> },
    Predicate(Arc<dyn Fn(&HookPoint) -> bool + Send + Sync>),
    Any(Vec<Selector>),
}

/// Every point that fires in every run.
pub fn all() -> Selector {
    Selector(Kind::All)
}

/// Every always-firing point that the predicate accepts.
///
/// ```
/// use candlescope::hooks::matching;
/// let late_patterns = matching(|point| point.is("pattern") && point.layer() >= Some(6));
/// # let _ = late_patterns;
/// ```
pub fn matching(predicate: impl Fn(&HookPoint) -> bool + Send + Sync + 'static) -> Selector {
    Selector(Kind::Predicate(Arc::new(predicate)))
}

impl Selector {
    /// The points that it selects, as indices into `points`, in their order. An error if a name is unknown, or if a
    /// named point can't fire, or if nothing is selected.
    pub(crate) fn resolve(&self, points: &[PointInfo]) -> Result<Vec<usize>> {
        let mut chosen = self.collect(points)?;
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }

    /// As [`resolve`](Self::resolve), in the order in which a list names them.
    pub(crate) fn resolve_in_order(&self, points: &[PointInfo]) -> Result<Vec<usize>> {
        let mut chosen = Vec::new();
        for place in self.collect(points)? {
            if !chosen.contains(&place) {
                chosen.push(place);
            }
        }
        Ok(chosen)
    }

    /// Whether it means this point by name, and not only as one of all ([`all`], [`matching`]).
    pub(crate) fn names(&self, point: &HookPoint, points: &[PointInfo]) -> bool {
        match &self.0 {
            Kind::All | Kind::Predicate(_) => false,
            Kind::Any(selectors) => selectors.iter().any(|selector| selector.names(point, points)),
            Kind::Name(_) | Kind::Layered { .. } => {
                self.collect(points).is_ok_and(|chosen| chosen.iter().any(|&i| points[i].point == *point))
            }
        }
    }

    fn collect(&self, points: &[PointInfo]) -> Result<Vec<usize>> {
        match &self.0 {
            Kind::All => Ok(always_firing(points, |_| true)),
            Kind::Predicate(accepts) => {
                let chosen = always_firing(points, |point| accepts(point));
                if chosen.is_empty() {
                    return Err(Error::msg(
                        "the predicate selects no hook point of this model; model.hook_points() lists all of them",
                    ));
                }
                Ok(chosen)
            }
            Kind::Name(name) => by_name(name, points),
            Kind::Layered { name, layer, layer_type } => {
                let stacks = in_stacks(name, layer_type.as_deref(), points);
                let counted: Vec<&PointInfo> = if stacks.is_empty() {
                    points.iter().collect()
                } else {
                    stacks.iter().map(|&i| &points[i]).collect()
                };
                let n_layers = counted.iter().filter_map(|info| info.point.layer()).max().map_or(0, |last| last + 1);
                let absolute = if *layer < 0 { layer + n_layers as i64 } else { *layer };
                if absolute < 0 || absolute >= n_layers as i64 {
                    return Err(Error::msg(format!(
                        "layer {layer} of '{name}' is out of range: the model has {n_layers} layers"
                    )));
                }
                if !stacks.is_empty() {
                    return one_stack(name, absolute as usize, stacks, points);
                }
                by_name(&act_name(name, Some(absolute as usize), layer_type.as_deref()), points)
            }
            Kind::Any(selectors) => {
                let mut chosen = Vec::new();
                for selector in selectors {
                    chosen.extend(selector.collect(points)?);
                }
                Ok(chosen)
            }
        }
    }
}

/// Where there are an encoder and a decoder, the points of all layers that a short name may mean: `resid_mid` is in both
/// stacks, and `pattern` in three attentions. None in a model of one stack.
fn in_stacks(name: &str, layer_type: Option<&str>, points: &[PointInfo]) -> Vec<usize> {
    if !points.iter().any(|info| info.point.name().starts_with("decoder_blocks.")) {
        return Vec::new();
    }
    let full = act_name(name, Some(0), layer_type);
    let Some(wanted) = full.strip_prefix("blocks.0.") else { return Vec::new() };
    // A module that the caller did not name may be any attention.
    let module_is_named = layer_type.is_some() || name.contains('.');
    let fits = |point: &HookPoint| match point.name().split_once("_blocks.").and_then(|(_, rest)| rest.split_once('.'))
    {
        Some((_, tail)) => {
            let any_attention = tail.strip_prefix("self_").or_else(|| tail.strip_prefix("cross_"));
            tail == wanted || (!module_is_named && any_attention == Some(wanted))
        }
        None => false,
    };
    (0..points.len()).filter(|&i| fits(&points[i].point)).collect()
}

/// The one of these points that lies in a layer; an error that lists them if there are several.
fn one_stack(name: &str, layer: usize, candidates: Vec<usize>, points: &[PointInfo]) -> Result<Vec<usize>> {
    let there: Vec<usize> = candidates.into_iter().filter(|&i| points[i].point.layer() == Some(layer)).collect();
    match there[..] {
        [] => Err(Error::msg(format!("there is no '{name}' in layer {layer} of either stack"))),
        [one] => by_name(points[one].point.name(), points),
        _ => {
            let names: Vec<&str> = there.iter().map(|&i| points[i].point.name()).collect();
            Err(Error::msg(format!(
                "'{name}' of layer {layer} may be any of {}: this model has an encoder and a decoder, so give the full name",
                names.join(", ")
            )))
        }
    }
}

fn always_firing(points: &[PointInfo], accepts: impl Fn(&HookPoint) -> bool) -> Vec<usize> {
    let fires = |info: &PointInfo| info.fires == Fires::Always && accepts(&info.point);
    points.iter().enumerate().filter(|(_, info)| fires(info)).map(|(i, _)| i).collect()
}

/// The point of this full name, or of this short one (`embed`, `k6`), or the points of this bare name in all layers.
fn by_name(name: &str, points: &[PointInfo]) -> Result<Vec<usize>> {
    let full = act_name(name, None, None);
    let exact = |wanted: &str| points.iter().position(|info| info.point.name() == wanted);
    let chosen = match exact(name).or_else(|| exact(&full)) {
        Some(index) => vec![index],
        None => (0..points.len()).filter(|&i| points[i].point.is(name)).collect(),
    };
    let able = |&i: &usize| !matches!(points[i].fires, Fires::Never(_));
    let fires: Vec<usize> = chosen.iter().copied().filter(able).collect();
    match (chosen.first().map(|&i| &points[i]), fires.is_empty()) {
        (None, _) => Err(unknown(name, points)),
        (Some(PointInfo { point, fires: Fires::Never(why), .. }), true) => {
            Err(Error::HookCannotFire { name: point.name().to_string(), why: why.clone() })
        }
        _ => Ok(fires),
    }
}

/// The error for a name that is no point's, with the points that may have been meant: those of the wanted layer whose
/// last part is alike, else full names that are.
fn unknown(name: &str, points: &[PointInfo]) -> Error {
    let wanted = HookPoint::new(name);
    let alike = near_misses(wanted.short_name(), points.iter().map(|info| info.point.short_name()));
    let meant = |point: &&HookPoint| {
        alike.iter().any(|short| short == point.short_name())
            && (wanted.layer().is_none() || wanted.layer() == point.layer())
    };
    // Without a layer in the name, the bare one stands for all layers.
    let suggestion = |point: &HookPoint| match (wanted.layer(), point.layer()) {
        (None, Some(_)) => point.short_name().to_string(),
        _ => point.name().to_string(),
    };
    let mut near: Vec<String> = points.iter().map(|info| &info.point).filter(meant).map(suggestion).collect();
    near.sort();
    near.dedup();
    near.truncate(3);
    if near.is_empty() {
        near = near_misses(name, points.iter().map(|info| info.point.name()));
    }
    Error::UnknownHook { name: name.to_string(), near }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::All => f.write_str("all points"),
            Kind::Name(name) => f.write_str(name),
            Kind::Layered { name, layer, .. } => write!(f, "{name} of layer {layer}"),
            Kind::Predicate(_) => f.write_str("points that a predicate accepts"),
            Kind::Any(selectors) => f.debug_list().entries(selectors).finish(),
        }
    }
}

impl From<&str> for Selector {
    fn from(name: &str) -> Self {
        Self(Kind::Name(name.to_string()))
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Self {
        Self(Kind::Name(name))
    }
}

impl From<&String> for Selector {
    fn from(name: &String) -> Self {
        Self(Kind::Name(name.clone()))
    }
}

impl From<HookPoint> for Selector {
    fn from(point: HookPoint) -> Self {
        Self(Kind::Name(point.name().to_string()))
    }
}

impl From<&HookPoint> for Selector {
    fn from(point: &HookPoint) -> Self {
        Self(Kind::Name(point.name().to_string()))
    }
}

impl From<&Selector> for Selector {
    fn from(selector: &Selector) -> Self {
        selector.clone()
    }
}

impl<T: Into<Selector>> From<Vec<T>> for Selector {
    fn from(several: Vec<T>) -> Self {
        Self(Kind::Any(several.into_iter().map(Into::into).collect()))
    }
}

impl<T: Into<Selector>, const N: usize> From<[T; N]> for Selector {
    fn from(several: [T; N]) -> Self {
        Self(Kind::Any(several.into_iter().map(Into::into).collect()))
    }
}

macro_rules! layered {
    ($($number:ty),*) => {$(
        impl From<(&str, $number)> for Selector {
            fn from((name, layer): (&str, $number)) -> Self {
                Self(Kind::Layered { name: name.to_string(), layer: layer as i64, layer_type: None })
            }
        }

        impl From<(&str, $number, &str)> for Selector {
            fn from((name, layer, layer_type): (&str, $number, &str)) -> Self {
                Self(Kind::Layered { name: name.to_string(), layer: layer as i64, layer_type: Some(layer_type.to_string()) })
            }
        }
    )*};
}

// Both, so that a plain literal (i32) and a loop variable (usize) work.
layered!(i32, i64, usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<PointInfo> {
        let mut points = vec![PointInfo::always(&HookPoint::new("hook_embed"), "")];
        for layer in 0..2 {
            points.push(PointInfo::always(&HookPoint::new(format!("blocks.{layer}.ln1.hook_scale")), ""));
            points.push(PointInfo::always(&HookPoint::new(format!("blocks.{layer}.attn.hook_pattern")), ""));
            points.push(PointInfo::on_request(&HookPoint::new(format!("blocks.{layer}.attn.hook_result")), ""));
            points.push(PointInfo::never(format!("blocks.{layer}.hook_resid_mid"), "the block is parallel"));
        }
        points
    }

    fn names(selector: impl Into<Selector>) -> Vec<String> {
        let points = points();
        let chosen = selector.into().resolve(&points).unwrap();
        chosen.into_iter().map(|i| points[i].point.name().to_string()).collect()
    }

    fn error(selector: impl Into<Selector>) -> String {
        selector.into().resolve(&points()).unwrap_err().to_string()
    }

    #[test]
    fn points_are_found_by_every_kind_of_name() {
        assert_eq!(names("blocks.1.attn.hook_pattern"), ["blocks.1.attn.hook_pattern"]);
        assert_eq!(names(("pattern", -1)), ["blocks.1.attn.hook_pattern"]);
        assert_eq!(names(("scale", 0usize, "ln1")), ["blocks.0.ln1.hook_scale"]);
        assert_eq!(names("pattern"), ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"]);
        assert_eq!(names("ln1.scale").len(), 2);
        assert_eq!(names("embed"), ["hook_embed"]);
        assert_eq!(names([("pattern", 1), ("pattern", 0)]).len(), 2);
        assert_eq!(names(matching(|p| p.layer() == Some(0))).len(), 2);
    }

    #[test]
    fn optional_points_fire_only_when_named() {
        assert_eq!(names(all()).len(), 5);
        assert_eq!(names("result").len(), 2);
    }

    #[test]
    fn what_selects_nothing_says_why() {
        assert!(error("blocks.1.attn.hook_patern").contains("did you mean 'blocks.1.attn.hook_pattern'"));
        assert!(error(("patern", 1)).contains("pattern"));
        assert!(error(("pattern", 2)).contains("2 layers"));
        assert!(error(("resid_mid", 0)).contains("the block is parallel"));
        assert!(error("resid_mid").contains("can't fire"));
        assert!(error(matching(|_| false)).contains("no hook point"));
    }
}
