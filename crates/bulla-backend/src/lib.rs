//! The contracts between Bulla and the systems that it uses.
//!
//! | contract | who implements it | who calls it |
//! |---|---|---|
//! | [`KeyWrapper`], [`KeyInspector`] | one crate per KMS | the DEK manager |
//! | [`KeyAdmin`], [`RotationSchedule`], [`KmsClock`] | the same crates | operators' tools |
//! | [`KeyStore`] | `bulla-sql`, the in-memory store | the DEK manager |
//! | [`AuditSink`] | whoever keeps the audit trail | the manager's layers |
//! | [`Clock`] | the manager, the testkit | the DEK manager |
//!
//! The KMS traits are split by role, so that least privilege is a type: a service
//! that only opens records needs nothing that can rotate or destroy a key.
//!
//! Every trait documents its contract, has no default method bodies, and takes and
//! returns structs that can grow fields. `bulla-testkit` holds a conformance suite
//! for each; run it against your own implementation.
//!
//! This crate starts no task, reads no clock and opens no connection.
#![forbid(unsafe_code)]

mod audit;
mod clock;
mod kek;
mod kms;
mod kms_error;
mod scope;
mod store;
mod store_error;

pub use audit::{AuditSink, KmsCall, KmsOutcome, collect_request_ids, note_request_id};
pub use clock::{Clock, Instant};
pub use kek::{KekId, KekState, KekStatus, KekVersion, KekVersionState, WrappedKey};
pub use kms::{
    Capabilities, GenerateRequest, GeneratedKey, Kek, KeyAdmin, KeyInspector, KeyWrapper, KmsClock,
    RewrapRequest, RotationSchedule, UnwrapRequest, UnwrappedKey, WrapRequest,
};
pub use kms_error::{Fault, KmsError, KmsErrorKind, KmsOperation};
pub use scope::{ScopeId, ScopeIdError};
pub use store::{
    Changes, Claim, ClaimRequest, DekChange, DekQuery, DekRecord, DekState, Insertion, KekUsage,
    KeyStore, MemberId, MemberReport, NewDek, NewWrap, StateChange, StoreIdentity, StoreRevision,
    StoredWrap, WrapSwap,
};
pub use store_error::{StoreError, StoreErrorKind};
