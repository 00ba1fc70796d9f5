//! Forget: which backups a policy keeps (`policy`), what that means for the records (`plan`), and
//! deleting them (`execute`).
//!
//! Only records are deleted. Packs stay until a prune deletes them, so concurrent restores are not
//! disturbed.

mod execute;
mod plan;
mod policy;

pub use execute::forget;
pub use plan::{Forget, ForgetPlan, Removal, VolumePlan, plan_forget};
pub use policy::{
    Candidate, Count, LabelMatch, ParsePolicyError, Period, Policy, Reason, Rule, Span,
};
