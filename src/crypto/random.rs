//! Random bytes from the system.

/// The system returned no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system returned no random bytes")]
pub struct RandomError(#[source] getrandom::Error);

/// Returns `N` bytes from the system's generator.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}
