//! What a request changes of objects on their way back: names, then whatever transforms say.
//!
//! Invariant: a request that is not understood as a whole changes nothing.

use refloat_model::plan::RestoreRequest;
use refloat_source::TargetError;

use super::mapping::{KINDS, Mapping};
use super::privileged::says_kind;
use super::transform::Transforms;

/// Everything that a request changes.
pub(super) struct Changes {
    pub(super) mapping: Mapping,
    pub(super) transforms: Transforms,
}

impl Changes {
    /// Reads a request.
    ///
    /// # Errors
    /// A part of it is not understood.
    pub(super) fn parse(request: &RestoreRequest) -> Result<Self, TargetError> {
        let wrong = |what: String, hint: Option<String>| TargetError::Request { what, hint };
        let mapping = Mapping::parse(request).map_err(|what| {
            let hint = format!("a cluster knows {}", KINDS.join(", "));
            wrong(
                format!("{what:?} names nothing that can be renamed"),
                Some(hint),
            )
        })?;
        let transforms = Transforms::parse(&request.transforms).map_err(|why| wrong(why, None))?;
        let vague = request.privileged.iter().find(|glob| !says_kind(glob));
        if let Some(glob) = vague {
            let hint = "write KIND/NAME, for example roles.rbac.authorization.k8s.io/shop/*";
            let what = format!("{:?} does not say a kind", glob.pattern());
            return Err(wrong(what, Some(hint.to_owned())));
        }
        Ok(Self {
            mapping,
            transforms,
        })
    }
}
