//! Who is alive, and what they know.

use bulla_backend::{MemberId, MemberReport, StoreError, StoreRevision};

use super::SqliteKeyStore;
use crate::error::{from_sqlx, refused};
use crate::limits;

/// How long a member that has ended without a word is kept for operators to see:
/// a week, in milliseconds.
const KEPT_MILLIS: i64 = 7 * 24 * 60 * 60 * 1000;

pub(super) async fn report_member(
    store: &SqliteKeyStore,
    report: &MemberReport,
) -> Result<(), StoreError> {
    let mut unit = store.write().await?;
    let StoreRevision(acknowledged) = report.acknowledged;
    let acknowledged = limits::revision(acknowledged);
    if acknowledged > unit.rev {
        return Err(refused("the member acknowledges a revision that is still to come"));
    }
    unit.bump().await?;
    let now = unit.now;
    sqlx::query(
        // Reports may overtake each other; what was known stays known.
        "INSERT INTO members (member, seen_at, alive_until, acked_rev, seal_until)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (member)
         DO UPDATE SET seen_at = excluded.seen_at, alive_until = excluded.alive_until,
                       acked_rev = max(acked_rev, excluded.acked_rev),
                       seal_until = excluded.seal_until",
    )
    .bind(report.member.as_str())
    .bind(now)
    .bind(limits::after(now, report.alive_for))
    .bind(acknowledged)
    .bind(limits::after(now, report.seal_lease))
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    sqlx::query("DELETE FROM members WHERE max(alive_until, seal_until) < ?1")
        .bind(now.saturating_sub(KEPT_MILLIS))
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    unit.commit().await
}

pub(super) async fn remove_member(
    store: &SqliteKeyStore,
    member: &MemberId,
) -> Result<(), StoreError> {
    let mut unit = store.write().await?;
    let removed = sqlx::query("DELETE FROM members WHERE member = ?1")
        .bind(member.as_str())
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    if removed.rows_affected() == 0 {
        return unit.roll_back().await;
    }
    unit.bump().await?;
    unit.commit().await
}
