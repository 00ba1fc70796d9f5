//! Statements. A statement is one line of text that records the state of a log on paper. Section 12
//! (Log) of `docs/format.md` describes it.

use std::fmt;
use std::str::FromStr;

use crate::base::{ObjectHash, ProjectId, SignerId};
use crate::crypto::hash;

/// The number of bytes of the fingerprint in a statement. Also the minimum number of bytes of the
/// entry's hash there.
const SHOWN: usize = 20;
/// The fields before the project's id.
const PREFIX: &str = "CUTTLEBONE:HEAD:1";

/// The newest entry of a log, and the key that signs the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The project.
    pub project: ProjectId,
    /// The number of the entry.
    pub number: u64,
    /// The first digits of the hash of the entry, 40 to 64, in lower case.
    entry: String,
    /// The first bytes of the hash of the public key that signs the log.
    fingerprint: [u8; SHOWN],
}

/// The reason why a text is no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// It has another form.
    #[error(
        "it does not have the form {PREFIX}:PROJECT-ID:ENTRY-NUMBER:ENTRY:SIGNING-KEY:CHECKSUM"
    )]
    Form,
    /// It was copied wrongly.
    #[error("its checksum does not fit: a digit or letter was copied wrongly")]
    Checksum,
}

impl Statement {
    /// Returns the statement of an entry of a project's log.
    #[must_use]
    pub fn new(project: ProjectId, number: u64, entry: ObjectHash, signer: &SignerId) -> Self {
        Self {
            project,
            number,
            entry: entry.to_string(),
            fingerprint: fingerprint(signer),
        }
    }

    /// Returns the first bytes of the hash of the public key that signs the log.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; SHOWN] {
        &self.fingerprint
    }

    /// Returns the digits of the hash of the entry: 40 at least.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// Returns whether the statement is about the entry with this hash and number.
    #[must_use]
    pub fn is_of(&self, entry: &ObjectHash, number: u64) -> bool {
        self.number == number && entry.to_string().starts_with(&self.entry)
    }

    /// Returns whether this public key signs the log.
    #[must_use]
    pub fn is_signed_by(&self, signer: &SignerId) -> bool {
        self.fingerprint == fingerprint(signer)
    }

    /// Returns two words that reveal a mistake in copying the statement. They encode the first 4
    /// bytes of the BLAKE3 hash of “cuttlebone head” ‖ 0 ‖ project id ‖ number (8 bytes,
    /// little-endian) ‖ the first 20 bytes of the hash of the entry ‖ the 20 bytes of the
    /// fingerprint. Each word encodes 16 bits, beginning with the highest ones. Consonants
    /// (`bdfghjklmnprstvz`) and vowels (`aiou`) alternate. A consonant encodes 4 bits, and a vowel
    /// 2 bits.
    #[must_use]
    pub fn checksum(&self) -> String {
        let entry = hex::decode(&self.entry[..2 * SHOWN]).unwrap_or_default();
        let all = hash(&[
            b"cuttlebone head\0",
            self.project.as_bytes(),
            &self.number.to_le_bytes(),
            &entry,
            &self.fingerprint,
        ]);
        format!("{}-{}", word([all[0], all[1]]), word([all[2], all[3]]))
    }
}

/// Writes one line in upper case, since a QR code of upper-case letters needs fewer dots.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!(
            "{PREFIX}:{}:{}:{}:{}:{}",
            self.project,
            self.number,
            self.entry,
            hex::encode(self.fingerprint),
            self.checksum()
        );
        f.write_str(&text.to_uppercase())
    }
}

impl FromStr for Statement {
    type Err = StatementError;

    /// Reads a statement in letters of either case. White space does not count.
    fn from_str(text: &str) -> Result<Self, StatementError> {
        let text: String = text.split_whitespace().collect();
        let text = text.to_ascii_lowercase();
        let fields = text
            .strip_prefix(&PREFIX.to_ascii_lowercase())
            .and_then(|rest| rest.strip_prefix(':'))
            .ok_or(StatementError::Form)?;
        let [project, number, entry, fingerprint, checksum] =
            fields.split(':').collect::<Vec<_>>()[..]
        else {
            return Err(StatementError::Form);
        };
        let is_hex = entry.bytes().all(|b| b.is_ascii_hexdigit());
        let is_decimal = number.bytes().all(|b| b.is_ascii_digit());
        if !is_hex || !(2 * SHOWN..=64).contains(&entry.len()) || !is_decimal {
            return Err(StatementError::Form);
        }
        let mut shown = [0; SHOWN];
        hex::decode_to_slice(fingerprint, &mut shown).map_err(|_| StatementError::Form)?;
        let statement = Self {
            project: project.parse().map_err(|_| StatementError::Form)?,
            number: number.parse().map_err(|_| StatementError::Form)?,
            entry: entry.to_owned(),
            fingerprint: shown,
        };
        if statement.checksum() == checksum {
            Ok(statement)
        } else {
            Err(StatementError::Checksum)
        }
    }
}

fn fingerprint(signer: &SignerId) -> [u8; SHOWN] {
    let mut first = [0; SHOWN];
    first.copy_from_slice(&hash(&[signer.as_bytes()])[..SHOWN]);
    first
}

/// Writes 16 bits as a word that can be pronounced (a proquint).
fn word(bytes: [u8; 2]) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let bits = usize::from(u16::from_be_bytes(bytes));
    let letters = [
        CONSONANTS[bits >> 12],
        VOWELS[bits >> 10 & 3],
        CONSONANTS[bits >> 6 & 15],
        VOWELS[bits >> 4 & 3],
        CONSONANTS[bits & 15],
    ];
    letters.map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::object_hash;

    fn statement() -> Statement {
        let signer = SignerId::from_bytes([2; 32]);
        Statement::new(
            ProjectId::from_bytes([1; 16]),
            7,
            object_hash(&[b"entry"]),
            &signer,
        )
    }

    #[test]
    fn words_are_those_of_the_proquint_proposal() {
        // 127.0.0.1 is lusab-babad.
        assert_eq!([word([127, 0]), word([0, 1])], ["lusab", "babad"]);
        assert_eq!([word([63, 84]), word([220, 193])], ["gutih", "tugad"]);
    }

    #[test]
    fn every_part_of_a_statement_changes_its_checksum() {
        let one = statement();
        let others = [
            Statement {
                project: ProjectId::from_bytes([3; 16]),
                ..one.clone()
            },
            Statement {
                number: 8,
                ..one.clone()
            },
            Statement {
                entry: object_hash(&[b"other"]).to_string(),
                ..one.clone()
            },
            Statement {
                fingerprint: fingerprint(&SignerId::from_bytes([4; 32])),
                ..one.clone()
            },
        ];
        let mut checksums = others.iter().map(Statement::checksum);
        assert!(checksums.all(|checksum| checksum != one.checksum()));
    }

    #[test]
    fn a_statement_is_read_back_in_either_case_and_with_white_space() {
        let one = statement();
        let line = one.to_string();
        assert_eq!(line, line.to_uppercase());
        assert_eq!(line.parse(), Ok(one.clone()));
        assert_eq!(line.to_lowercase().parse(), Ok(one.clone()));
        let (start, end) = line.split_at(50);
        assert_eq!(format!(" {start}\n  {end}\n").parse(), Ok(one));
    }

    #[test]
    fn forty_digits_of_the_hash_identify_the_entry() {
        let one = statement();
        let whole = one.entry.clone();
        let short = Statement {
            entry: whole[..40].to_owned(),
            ..one
        };
        let read: Statement = short.to_string().parse().unwrap();
        let entry = object_hash(&[b"entry"]);
        assert!(read.is_of(&entry, 7));
        assert!(!read.is_of(&entry, 8));
        assert!(!read.is_of(&object_hash(&[b"other"]), 7));
    }

    #[test]
    fn a_text_of_another_form_or_with_a_wrong_digit_is_no_statement() {
        let line = statement().to_string();
        let entry = line.find(&statement().entry.to_uppercase()).unwrap();
        // The checksum covers 40 digits of the entry.
        for at in (0..line.len()).filter(|at| !(entry + 40..entry + 64).contains(at)) {
            let mut wrong = line.clone().into_bytes();
            wrong[at] = if wrong[at] == b'1' { b'2' } else { b'1' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(wrong.parse::<Statement>().is_err(), "{wrong}");
        }
        for wrong in [
            "",
            "CUTTLEBONE:HEAD:1",
            &line[..line.len() - 12],
            &line[1..],
        ] {
            assert_eq!(wrong.parse::<Statement>(), Err(StatementError::Form));
        }
        let longer = format!("{line}:x");
        assert_eq!(longer.parse::<Statement>(), Err(StatementError::Form));
    }
}
