//! The role that a key needs for each action on a repository.

use super::failure::{Code, Failure};
use crate::base::Role;

/// The actions on a repository for which a key needs a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    List,
    Show,
    Status,
    RemoveSnapshots,
    Stats,
    Check,
    /// Read packs. A key with the role “write” may not: hosts that are backed up need not read the
    /// whole store.
    CheckData,
    /// Show the ledger.
    ListAudits,
    Cache,
    ListKeys,
    TestKey,
    ExportKey,
    Backup,
    Compare,
    Restore,
    Drill,
    ExportDiff,
    /// Read backups to copy them.
    Copy,
    /// Store copies of backups of another project.
    StoreCopies,
    Label,
    Forget,
    Prune,
    /// A forget or prune that accepts losses.
    AcceptLoss,
    RepairPacks,
    Head,
    SetParity,
    RepairIndex,
    AddKey,
    RemoveKey,
    RevokeKey,
    ChangePassword,
}

impl Attempt {
    /// Returns the lowest role that includes this attempt, and the text for “this key may not …”.
    /// [`permit`](Self::permit) makes an exception for [`CheckData`](Self::CheckData).
    const fn rule(self) -> (Role, &'static str) {
        match self {
            Self::List => (Role::Verify, "list backups"),
            Self::Show => (Role::Verify, "show a backup"),
            Self::Status => (Role::Verify, "show the status of volumes"),
            Self::RemoveSnapshots => (Role::Write, "remove snapshots"),
            Self::Stats => (Role::Verify, "show sizes"),
            Self::Check => (Role::Verify, "check the repository"),
            Self::CheckData => (Role::Verify, "read data, as check --read-data does"),
            Self::ListAudits => (Role::Verify, "show what was verified"),
            Self::Cache => (Role::Verify, "use the cache"),
            Self::ListKeys => (Role::Verify, "list keys"),
            Self::TestKey => (Role::Verify, "be tested"),
            Self::ExportKey => (Role::Verify, "export its slot"),
            Self::Backup => (Role::Write, "back up"),
            Self::Compare => (Role::Full, "compare backups"),
            Self::Restore => (Role::Full, "restore"),
            Self::Drill => (Role::Full, "restore, as a drill does"),
            Self::ExportDiff => (Role::Full, "export a diff"),
            Self::Copy => (Role::Full, "copy backups, which reads their data"),
            Self::StoreCopies => (Role::Write, "store copies of backups"),
            Self::Label => (Role::Full, "change labels"),
            Self::Forget => (Role::Full, "forget backups"),
            Self::Prune => (Role::Full, "prune"),
            Self::AcceptLoss => (Role::Full, "accept that backups are lost"),
            Self::RepairPacks => (Role::Full, "repair packs"),
            Self::Head => (Role::Full, "run “head”, which writes into the log"),
            Self::SetParity => (Role::Full, "set the parity"),
            Self::RepairIndex => (Role::Full, "repair the index"),
            Self::AddKey => (Role::Full, "add a key"),
            Self::RemoveKey => (Role::Full, "remove a key"),
            Self::RevokeKey => (Role::Full, "revoke a key"),
            Self::ChangePassword => (Role::Full, "change its password"),
        }
    }

    /// Returns whether the command must fail if this host notices that history is lost. Such a
    /// command relies on the remaining backups, or states that they are complete.
    pub(crate) const fn needs_history(self) -> bool {
        matches!(
            self,
            Self::Backup
                | Self::StoreCopies
                | Self::RemoveSnapshots
                | Self::Label
                | Self::Forget
                | Self::Prune
                | Self::Head
        )
    }

    /// Fails if a key with the role `held` may not make this attempt.
    pub(crate) fn permit(self, held: Role) -> Result<(), Failure> {
        let (needed, action) = self.rule();
        let is_excluded = self == Self::CheckData && held == Role::Write;
        if held.includes(needed) && !is_excluded {
            return Ok(());
        }
        let message = format!("this key has the role “{held}” and may not {action}");
        let who = match (self, needed) {
            (Self::ChangePassword, _) => {
                "the holder of a key with the role “full” can add another key and remove this one"
            }
            (Self::CheckData, _) => "a key with the role “verify” or “full” may do it",
            (_, Role::Full) => "a key with the role “full” may do it",
            (_, Role::Write) => "a key with the role “write” or “full” may do it",
            (_, Role::Verify) => "every key may do it",
        };
        let hint = format!("{who}; “cuttlebone key list” shows the keys and their roles");
        Err(Failure::new(Code::NotAllowed, message).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All attempts in the order of the enum, the roles that may make them, and a part of the
    /// message for the other roles.
    const RULES: [(Attempt, &[Role], &str); Attempt::ChangePassword as usize + 1] = {
        use Attempt::*;
        const ALL: &[Role] = &[Role::Full, Role::Write, Role::Verify];
        const WRITERS: &[Role] = &[Role::Full, Role::Write];
        const READERS: &[Role] = &[Role::Full, Role::Verify];
        const FULL: &[Role] = &[Role::Full];
        [
            (List, ALL, ""),
            (Show, ALL, ""),
            (Status, ALL, ""),
            (RemoveSnapshots, WRITERS, "may not remove snapshots"),
            (Stats, ALL, ""),
            (Check, ALL, ""),
            (CheckData, READERS, "check --read-data"),
            (ListAudits, ALL, ""),
            (Cache, ALL, ""),
            (ListKeys, ALL, ""),
            (TestKey, ALL, ""),
            (ExportKey, ALL, ""),
            (Backup, WRITERS, "may not back up"),
            (Compare, FULL, "may not compare"),
            (Restore, FULL, "may not restore"),
            (Drill, FULL, "as a drill does"),
            (ExportDiff, FULL, "may not export a diff"),
            (Copy, FULL, "may not copy backups"),
            (StoreCopies, WRITERS, "may not store copies of backups"),
            (Label, FULL, "may not change labels"),
            (Forget, FULL, "may not forget"),
            (Prune, FULL, "may not prune"),
            (AcceptLoss, FULL, "accept that backups are lost"),
            (RepairPacks, FULL, "may not repair packs"),
            (Head, FULL, "may not run “head”, which writes into the log"),
            (SetParity, FULL, "may not set the parity"),
            (RepairIndex, FULL, "may not repair the index"),
            (AddKey, FULL, "may not add a key"),
            (RemoveKey, FULL, "may not remove a key"),
            (RevokeKey, FULL, "may not revoke a key"),
            (ChangePassword, FULL, "may not change its password"),
        ]
    };

    #[test]
    fn a_refusal_names_the_attempt_the_role_of_the_key_and_the_roles_that_may() {
        for (number, (attempt, roles, text)) in RULES.into_iter().enumerate() {
            assert_eq!(attempt as usize, number, "{attempt:?} is out of order");
            for held in [Role::Full, Role::Write, Role::Verify] {
                let permitted = attempt.permit(held);
                assert_eq!(
                    permitted.is_ok(),
                    roles.contains(&held),
                    "{attempt:?} {held}"
                );
                let Err(refusal) = permitted else { continue };
                assert_eq!(refusal.code, Code::NotAllowed);
                assert!(refusal.message.contains(text), "{refusal:?}");
                assert!(
                    refusal.message.contains(&format!("“{held}”")),
                    "{refusal:?}"
                );
                let hint = refusal.hint.unwrap();
                for role in roles {
                    assert!(hint.contains(&format!("“{role}”")), "{hint}");
                }
            }
        }
    }
}
