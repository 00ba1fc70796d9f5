//! Forget: which backups stay (`policy`), what that means for the records that there are (`plan`), and doing it.
//!
//! Only records are deleted. Packs stay until they are pruned, so whoever restores meanwhile is not disturbed.

mod execute;
mod plan;
mod policy;

pub use execute::forget;
pub use plan::{Forget, ForgetPlan, Removal, VolumePlan, plan_forget};
pub use policy::{
    Candidate, Count, LabelMatch, ParsePolicyError, Period, Policy, Reason, Rule, Span,
};
