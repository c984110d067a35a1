//! Encryption contexts: key-value pairs that must match on open.
//!
//! Three kinds share one canonical encoding (spec, "Contexts"):
//!
//! ```text
//! CTX = u16 count, then for each pair in the order of the key bytes:
//!       u16 length, key, u16 length, value          (big-endian)
//! ```
//!
//! - [`RecordContext`] binds one record's payload: table, column, row key.
//! - [`ScopeContext`] names who owns a DEK lineage; it is part of the key id.
//! - [`KmsContext`] is the scope context plus two pairs of the format's own; it
//!   goes to the KMS with every wrap and unwrap and is constant for a DEK's life.

use std::fmt;

use smallvec::SmallVec;

use crate::DekVersion;
use crate::error::ContextError;
use crate::limits::{
    CONTEXT_KEY_BYTES_MAX, CONTEXT_VALUE_BYTES_MAX, RECORD_CONTEXT_BYTES_MAX, RECORD_PAIRS_MAX,
    SCOPE_CONTEXT_BYTES_MAX, SCOPE_PAIRS_MAX,
};

/// Keys with this prefix belong to the format (spec, "Contexts").
const RESERVED_PREFIX: &[u8] = b"bulla";

/// Encoded contexts up to this length need no heap: table, column and a row key
/// of ordinary length fit. The whole has 112 bytes then, which are moved without a call.
const INLINE_BYTES: usize = 96;

/// Context of one record, bound to its payload by the AEAD: at most 32 pairs,
/// keys of 1 to 64 bytes, values of up to 1024 bytes, 4096 bytes encoded.
///
/// Take what cannot change without the record becoming another one: the
/// *logical* table and column, the immutable row key. A row key that may be longer
/// than a value goes in as its SHA-256. Bytes are compared as they are, without any
/// normalisation. Contexts of ordinary length are built without touching the heap.
///
/// ```
/// use bulla_core::RecordContext;
///
/// let context = RecordContext::new([("table", "people"), ("column", "email"), ("row", "42")])?;
/// assert_eq!(context.pairs().count(), 3);
/// # Ok::<(), bulla_core::ContextError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RecordContext(SmallVec<[u8; INLINE_BYTES]>);

impl RecordContext {
    /// Encodes `pairs`, given in any order.
    ///
    /// # Errors
    /// [`ContextError`] when a limit is exceeded, a key is empty, appears twice or
    /// is reserved.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ContextError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let pairs = collect(pairs, RECORD_PAIRS_MAX);
        check(&pairs, RECORD_PAIRS_MAX)?;
        pairs.iter().try_for_each(|(key, _)| check_not_reserved(key.as_ref()))?;
        Ok(Self(encode(&pairs, RECORD_CONTEXT_BYTES_MAX)?))
    }

    /// The context without pairs. It binds nothing: a record sealed under it can
    /// be moved to another row unnoticed.
    pub fn empty() -> Self {
        Self(SmallVec::from_slice(&[0, 0]))
    }

    /// The canonical encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pairs, in the order of their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        Pairs::of(&self.0)
    }
}

/// A KMS context as the record context of a wrapped key, for backends that wrap
/// with this very format. Its pairs include reserved ones, which no other record
/// context can have.
impl From<&KmsContext> for RecordContext {
    fn from(context: &KmsContext) -> Self {
        Self(SmallVec::from_slice(context.as_bytes()))
    }
}

/// What owns one DEK lineage, for example a tenant and a purpose: at most 8 pairs
/// of UTF-8, 1024 bytes encoded.
///
/// Use opaque identifiers: scope contexts are sent to the KMS, which logs them.
///
/// ```
/// use bulla_core::ScopeContext;
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "orders")])?;
/// assert_eq!(scope.pairs().next(), Some(("purpose", "orders")));
/// # Ok::<(), bulla_core::ContextError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ScopeContext(Box<[u8]>);

impl ScopeContext {
    /// Encodes `pairs`, given in any order.
    ///
    /// # Errors
    /// [`ContextError`] when a limit is exceeded, a key is empty, appears twice or
    /// is reserved, or when a key or value is not UTF-8.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ContextError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let pairs = collect(pairs, SCOPE_PAIRS_MAX);
        check(&pairs, SCOPE_PAIRS_MAX)?;
        for (key, value) in &pairs {
            check_not_reserved(key.as_ref())?;
            //= spec 3.2
            //# Its keys and values MUST be valid UTF-8, since services take them as strings.
            if str::from_utf8(key.as_ref()).is_err() || str::from_utf8(value.as_ref()).is_err() {
                return Err(ContextError::NotUtf8);
            }
        }
        Ok(Self(encode(&pairs, SCOPE_CONTEXT_BYTES_MAX)?.into_vec().into()))
    }

    /// The canonical encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pairs, in the order of their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        text_pairs(&self.0)
    }

    /// The context that the KMS sees for the DEK `version` of this scope.
    pub fn kms_context(&self, version: DekVersion) -> KmsContext {
        KmsContext::new(self, version.get())
    }

    /// The context that the KMS sees for the single-use DEK of a self-contained envelope
    /// of this scope: version 0.
    pub fn single_use_kms_context(&self) -> KmsContext {
        KmsContext::new(self, 0)
    }
}

/// What the KMS binds a wrapped DEK to: the pairs of the scope context,
/// `bulla-format=1` and `bulla-dek-version=N`.
///
/// Constant for the life of a DEK, so that a rewrap never changes it.
#[derive(Clone, PartialEq, Eq)]
pub struct KmsContext(Box<[u8]>);

impl KmsContext {
    fn new(scope: &ScopeContext, version: u32) -> Self {
        let version = version.to_string();
        let mut pairs: Pieces<&[u8], &[u8]> = Pairs::of(&scope.0).collect();
        pairs.push((b"bulla-dek-version", version.as_bytes()));
        pairs.push((b"bulla-format", b"1"));
        pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        Self(write(&pairs).into_vec().into())
    }

    /// The canonical encoding, for backends whose KMS takes bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pairs in the order of their keys, for backends whose KMS takes a map.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        text_pairs(&self.0)
    }
}

/// Pairs while they are being sorted; eight are held without the heap.
type Pieces<K, V> = SmallVec<[(K, V); 8]>;

/// Collects `max` pairs and one more, so that an endless iterator costs nothing.
fn collect<K, V>(pairs: impl IntoIterator<Item = (K, V)>, max: usize) -> Pieces<K, V> {
    // Filled where it is: `collect` would move the whole.
    let mut pieces = Pieces::new();
    pieces.extend(pairs.into_iter().take(max + 1));
    pieces
}

/// Checks the number of pairs, and each of them alone.
fn check<K, V>(pairs: &[(K, V)], max: usize) -> Result<(), ContextError>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    if pairs.len() > max {
        return Err(ContextError::TooManyPairs { max });
    }
    for (key, value) in pairs {
        let (key, value) = (key.as_ref(), value.as_ref());
        //= spec 3.1
        //# Keys MUST NOT be empty.
        if key.is_empty() {
            return Err(ContextError::EmptyKey);
        }
        if key.len() > CONTEXT_KEY_BYTES_MAX {
            return Err(ContextError::KeyTooLong { len: key.len(), max: CONTEXT_KEY_BYTES_MAX });
        }
        if value.len() > CONTEXT_VALUE_BYTES_MAX {
            return Err(ContextError::ValueTooLong {
                key: text(key),
                len: value.len(),
                max: CONTEXT_VALUE_BYTES_MAX,
            });
        }
    }
    Ok(())
}

fn check_not_reserved(key: &[u8]) -> Result<(), ContextError> {
    //= spec 3.1
    //# A sealer and an opener MUST refuse them in contexts that callers give.
    if key.starts_with(RESERVED_PREFIX) {
        return Err(ContextError::ReservedKey { key: text(key) });
    }
    Ok(())
}

/// A key for an error message.
fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Sorts, refuses duplicates and an encoding over `max` bytes, and encodes.
fn encode<K, V>(pairs: &[(K, V)], max: usize) -> Result<SmallVec<[u8; INLINE_BYTES]>, ContextError>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let refs = pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
    let mut pairs: Pieces<&[u8], &[u8]> = collect(refs, pairs.len());
    pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
    //= spec 3.1
    //# A key given twice MUST be refused, also when both values are equal.
    if let Some(two) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(ContextError::DuplicateKey { key: text(two[0].0) });
    }
    //= spec 3.1
    //# The limits of section 10 apply to the pairs and to the encoding as a whole, and MUST be
    //# checked on seal and on open alike.
    let len = encoded_len(&pairs);
    if len > max {
        return Err(ContextError::TooLong { len, max });
    }
    Ok(write(&pairs))
}

fn encoded_len(pairs: &[(&[u8], &[u8])]) -> usize {
    2 + pairs.iter().map(|(key, value)| 4 + key.len() + value.len()).sum::<usize>()
}

/// The encoding proper. The limits keep every length within a u16.
fn write(sorted: &[(&[u8], &[u8])]) -> SmallVec<[u8; INLINE_BYTES]> {
    let mut out = SmallVec::from_elem(0, encoded_len(sorted));
    let mut rest = &mut out[..];
    let mut put = |bytes: &[u8]| {
        let (place, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        rest = behind;
    };
    put(&(sorted.len() as u16).to_be_bytes());
    for piece in sorted.iter().flat_map(|(key, value)| [key, value]) {
        put(&(piece.len() as u16).to_be_bytes());
        put(piece);
    }
    out
}

fn text_pairs(encoded: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    // Both were checked to be UTF-8 when they were encoded.
    Pairs::of(encoded)
        .filter_map(|(key, value)| Some((str::from_utf8(key).ok()?, str::from_utf8(value).ok()?)))
}

/// Reads back an encoding that this module has written.
struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    fn of(encoded: &'a [u8]) -> Self {
        Self(encoded.get(2..).unwrap_or_default())
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let (piece, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        self.0 = rest;
        Some(piece)
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.piece()?, self.piece()?))
    }
}

/// Contexts are not secret, but may name people in spite of all advice: `Debug`
/// shows the keys and the lengths of the values.
impl fmt::Debug for RecordContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in self.pairs() {
            map.entry(&String::from_utf8_lossy(key), &format_args!("[{} bytes]", value.len()));
        }
        map.finish()
    }
}

impl fmt::Debug for ScopeContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs()).finish()
    }
}

impl fmt::Debug for KmsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_encoding_is_sorted_and_length_prefixed() {
        let context = RecordContext::new([("b", "22"), ("a", "1")]).unwrap();
        assert_eq!(context.as_bytes(), b"\x00\x02\x00\x01a\x00\x011\x00\x01b\x00\x0222");
        assert_eq!(RecordContext::empty(), RecordContext::new([("", ""); 0]).unwrap());
    }

    #[test]
    fn limits_may_be_reached() {
        assert!(RecordContext::new([("k".repeat(64), "v".repeat(1024))]).is_ok());
        // 2 bytes for the number of pairs, 5 beside each value.
        let lens = [1024, 1024, 1024, 4096 - 2 - 3 * (5 + 1024) - 5];
        let pairs = |more: usize| {
            lens.map(|len| len + more * usize::from(len < 1024))
                .into_iter()
                .enumerate()
                .map(|(at, len)| (at.to_string(), "v".repeat(len)))
        };
        assert_eq!(RecordContext::new(pairs(0)).unwrap().as_bytes().len(), 4096);
        assert!(RecordContext::new(pairs(1)).is_err());
    }

    #[test]
    fn scope_contexts_show_what_is_in_them() {
        let scope = ScopeContext::new([("tenant", "t"), ("purpose", "p")]).unwrap();
        let pairs: Vec<_> = scope.pairs().collect();
        assert_eq!(pairs, [("purpose", "p"), ("tenant", "t")]);
        assert_eq!(format!("{scope:?}"), r#"{"purpose": "p", "tenant": "t"}"#);
        let shown = format!("{:?}", scope.kms_context(DekVersion::FIRST));
        assert!(shown.contains(r#""bulla-dek-version": "1""#), "{shown}");
    }

    #[test]
    fn each_limit_is_refused_by_its_own_error() {
        let pairs = |n: usize| (0..n).map(|i| (format!("k{i}"), "v"));
        assert!(RecordContext::new(pairs(32)).is_ok());
        let refused = |result: Result<RecordContext, _>| result.unwrap_err();
        assert_eq!(refused(RecordContext::new(pairs(33))), ContextError::TooManyPairs { max: 32 });
        assert_eq!(refused(RecordContext::new([("", "v")])), ContextError::EmptyKey);
        assert_eq!(
            refused(RecordContext::new([("k".repeat(65), "v")])),
            ContextError::KeyTooLong { len: 65, max: 64 }
        );
        assert_eq!(
            refused(RecordContext::new([("k", "v".repeat(1025))])),
            ContextError::ValueTooLong { key: "k".into(), len: 1025, max: 1024 }
        );
        assert_eq!(
            refused(RecordContext::new((0..4).map(|i| (format!("{i}"), "v".repeat(1024))))),
            ContextError::TooLong { len: 2 + 4 * (2 + 1 + 2 + 1024), max: 4096 }
        );
        assert_eq!(
            refused(RecordContext::new([("k", "1"), ("k", "2")])),
            ContextError::DuplicateKey { key: "k".into() }
        );
        assert_eq!(
            refused(RecordContext::new([("bulla-x", "")])),
            ContextError::ReservedKey { key: "bulla-x".into() }
        );
        assert_eq!(ScopeContext::new([("k", b"\xff")]).unwrap_err(), ContextError::NotUtf8);
        assert_eq!(
            ScopeContext::new([("bulla", "")]).unwrap_err(),
            ContextError::ReservedKey { key: "bulla".into() }
        );
        assert_eq!(ScopeContext::new(pairs(9)).unwrap_err(), ContextError::TooManyPairs { max: 8 });
        assert_eq!(
            ScopeContext::new([("k", "v".repeat(1020))]).unwrap_err(),
            ContextError::TooLong { len: 1027, max: 1024 }
        );
    }

    #[test]
    fn an_endless_iterator_is_refused_not_collected() {
        let endless = std::iter::repeat(("k", "v"));
        assert_eq!(
            RecordContext::new(endless).unwrap_err(),
            ContextError::TooManyPairs { max: 32 }
        );
    }

    #[test]
    fn the_kms_context_adds_the_two_pairs_of_the_format() {
        let scope = ScopeContext::new([("tenant", "acme"), ("a", "b")]).unwrap();
        let context = scope.kms_context(DekVersion::new(7).unwrap());
        assert_eq!(
            context.pairs().collect::<Vec<_>>(),
            [("a", "b"), ("bulla-dek-version", "7"), ("bulla-format", "1"), ("tenant", "acme")]
        );
    }

    #[test]
    fn ordinary_contexts_do_not_touch_the_heap() {
        let info = allocation_counter::measure(|| {
            let context =
                RecordContext::new([("table", "people"), ("column", "email"), ("row", "1234567")]);
            assert!(context.is_ok());
        });
        assert_eq!(info.count_total, 0);
    }

    #[test]
    fn debug_hides_the_values_of_records() {
        let context = RecordContext::new([("row", "secret-person")]).unwrap();
        assert_eq!(format!("{context:?}"), r#"{"row": [13 bytes]}"#);
    }

    proptest! {
        /// One encoding per set of pairs, whatever their order; and it reads back.
        #[test]
        fn encoding_is_canonical(
            pairs in proptest::collection::btree_map("[a-z]{1,8}", ".{0,12}", 0..8),
            swap in any::<prop::sample::Index>(),
        ) {
            let mut shuffled: Vec<_> = pairs.clone().into_iter().collect();
            if !shuffled.is_empty() {
                let middle = swap.index(shuffled.len());
                shuffled.rotate_left(middle);
            }
            prop_assume!(!pairs.keys().any(|key| key.starts_with("bulla")));
            let a = RecordContext::new(&pairs).unwrap();
            let b = RecordContext::new(shuffled).unwrap();
            prop_assert_eq!(a.as_bytes(), b.as_bytes());
            let read: Vec<_> = a.pairs().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            let expected: Vec<_> =
                pairs.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
