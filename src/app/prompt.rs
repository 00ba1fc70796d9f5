//! Asks the user of a front end for passwords.

use std::io;

use zeroize::Zeroizing;

/// How a front end asks its user for passwords.
pub(crate) trait Prompt {
    /// Shows `text` and returns what the user types; `None` if there is no user to ask.
    fn password(&self, text: &str) -> io::Result<Option<Zeroizing<String>>>;

    /// Lets another program, such as ssh, use the terminal until the returned loan is dropped.
    fn lend_terminal(&self) -> Box<dyn TerminalLoan + '_>;
}

/// Ends the loan of a terminal when dropped.
pub(crate) trait TerminalLoan {}
