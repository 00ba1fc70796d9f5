//! Forget: the rules of a policy (`rule`), the backups that a policy keeps (`policy`), the plan for
//! all records (`plan`), and their deletion (`execute`).
//!
//! Only records are deleted. Packs stay until a prune deletes them, so concurrent restores are not
//! disturbed.

mod execute;
mod plan;
mod policy;
mod rule;

pub use execute::forget;
pub use plan::{Forget, ForgetPlan, Removal, VolumePlan, plan_forget};
pub use policy::{Candidate, Link, Policy};
pub use rule::{Count, LabelMatch, ParsePolicyError, Period, Reason, Rule, Span};
