//! Names of scopes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bulla_core::{ContextError, ScopeContext};

/// Who owns a DEK lineage: a tenant and a purpose. Cheap to clone.
///
/// Both are opaque identifiers of 1 to 255 bytes, without control characters. Put
/// no personal data into them: they go to the KMS, which logs them.
///
/// ```
/// use bulla_backend::ScopeId;
///
/// let scope = ScopeId::new("t-9f2c", "orders")?;
/// assert_eq!(scope.to_string(), "t-9f2c/orders");
/// assert!(ScopeId::new("", "orders").is_err());
/// # Ok::<(), bulla_backend::ScopeIdError>(())
/// ```
#[derive(Clone)]
pub struct ScopeId(Arc<Parts>);

struct Parts {
    tenant: Box<str>,
    purpose: Box<str>,
    context: ScopeContext,
}

/// A tenant or purpose that cannot name a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeIdError {
    /// Empty, too long, or with control characters.
    #[error("a {field} must be 1 to {max} bytes of text without control characters")]
    BadText {
        /// Which of the two: `tenant` or `purpose`.
        field: &'static str,
        /// The limit, in bytes.
        max: usize,
    },
    /// The two do not fit into a scope context.
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl ScopeId {
    /// Longest tenant and longest purpose, in bytes.
    pub const TEXT_BYTES_MAX: usize = 255;

    /// Names the scope of `tenant` and `purpose`.
    ///
    /// # Errors
    /// [`ScopeIdError`] when one of them cannot be part of a name.
    pub fn new(tenant: &str, purpose: &str) -> Result<Self, ScopeIdError> {
        for (field, text) in [("tenant", tenant), ("purpose", purpose)] {
            let max = Self::TEXT_BYTES_MAX;
            if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
                return Err(ScopeIdError::BadText { field, max });
            }
        }
        let context = ScopeContext::new([("tenant", tenant), ("purpose", purpose)])?;
        Ok(Self(Arc::new(Parts { tenant: tenant.into(), purpose: purpose.into(), context })))
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// The purpose.
    pub fn purpose(&self) -> &str {
        &self.0.purpose
    }

    /// The scope context: the pairs `purpose` and `tenant`.
    pub fn context(&self) -> &ScopeContext {
        &self.0.context
    }
}

impl PartialEq for ScopeId {
    fn eq(&self, other: &Self) -> bool {
        self.0.context == other.0.context
    }
}

impl Eq for ScopeId {}

impl Hash for ScopeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.context.hash(state);
    }
}

/// `tenant/purpose`, for people; a slash in either makes it ambiguous.
impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant(), self.purpose())
    }
}

impl fmt::Debug for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeId({self})")
    }
}
