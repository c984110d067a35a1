//! Who is alive, and what they know.

use bulla_backend::{MemberId, MemberReport, StoreError, StoreRevision};
use rusqlite::params;

use super::unit::Unit;
use crate::error::refused;
use crate::limits;

/// How long a member that has ended without a word is kept for operators to see:
/// a week, in milliseconds.
const KEPT_MILLIS: i64 = 7 * 24 * 60 * 60 * 1000;

pub(super) fn report_member(unit: &mut Unit<'_>, report: &MemberReport) -> Result<(), StoreError> {
    let StoreRevision(acknowledged) = report.acknowledged;
    let acknowledged = limits::revision(acknowledged);
    if acknowledged > unit.rev {
        return Err(refused("the member acknowledges a revision that is still to come"));
    }
    unit.bump()?;
    unit.execute(
        // Reports may overtake each other; what was known stays known.
        "INSERT INTO members (member, seen_at, alive_until, acked_rev, seal_until)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (member)
         DO UPDATE SET seen_at = excluded.seen_at, alive_until = excluded.alive_until,
                       acked_rev = max(acked_rev, excluded.acked_rev),
                       seal_until = excluded.seal_until",
        params![
            report.member.as_str(),
            unit.now,
            limits::after(unit.now, report.alive_for),
            acknowledged,
            limits::after(unit.now, report.seal_lease),
        ],
    )?;
    unit.execute(
        "DELETE FROM members WHERE max(alive_until, seal_until) < ?1",
        (unit.now.saturating_sub(KEPT_MILLIS),),
    )?;
    Ok(())
}

pub(super) fn remove_member(unit: &mut Unit<'_>, member: &MemberId) -> Result<(), StoreError> {
    match unit.execute("DELETE FROM members WHERE member = ?1", (member.as_str(),))? {
        0 => Ok(()),
        _ => unit.bump(),
    }
}
