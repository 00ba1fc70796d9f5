//! Tables with aligned columns.

use super::human::{cut_short, printable, shortened, width};

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
    /// How to shorten long texts if the terminal is too narrow.
    pub(crate) shrinks: Shrinks,
}

/// How a column shortens long texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shrinks {
    Never,
    /// Cuts out the middle: both ends of a name help to recognize it.
    Middle,
    /// Cuts off the end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Column {
    pub(crate) const fn left(title: &'static str) -> Self {
        Self {
            title,
            align: Align::Left,
            shrinks: Shrinks::Never,
        }
    }

    pub(crate) const fn right(title: &'static str) -> Self {
        Self {
            title,
            align: Align::Right,
            shrinks: Shrinks::Never,
        }
    }

    /// Returns a column of names, which are shortened if they do not fit.
    pub(crate) const fn name(title: &'static str) -> Self {
        Self {
            title,
            align: Align::Left,
            shrinks: Shrinks::Middle,
        }
    }

    /// Returns a column of lists of words, whose ends are cut off if they do not fit.
    pub(crate) const fn words(title: &'static str) -> Self {
        Self {
            title,
            align: Align::Left,
            shrinks: Shrinks::End,
        }
    }
}

const GAP: usize = 2;
/// The minimum width of a column that shrinks.
const NARROWEST: usize = 8;

/// Returns the titles and rows. Each line has a line feed at its end. `columns` is the width of the
/// terminal; `None` if the table is not shown on one. On a terminal, shortens names and lists of
/// words so that the table fits, but cuts no text to less than [`NARROWEST`] columns. All other
/// columns keep their width, so the table may still be wider than the terminal.
pub(crate) fn table(header: &[Column], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|column| width(column.title)).collect();
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    if let Some(columns) = columns {
        shrink(&mut widths, header, columns);
    }
    let titles = header
        .iter()
        .map(|column| column.title.to_owned())
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(&rows) {
        for (i, ((cell, column), &columns)) in row.iter().zip(header).zip(&widths).enumerate() {
            if i > 0 {
                pad(&mut text, GAP);
            }
            let cell = match column.shrinks {
                Shrinks::End => cut_short(cell, columns),
                Shrinks::Never | Shrinks::Middle => shortened(cell, columns),
            };
            let space = columns - width(&cell).min(columns);
            if column.align == Align::Right {
                pad(&mut text, space);
            }
            text.push_str(&cell);
            if column.align == Align::Left {
                pad(&mut text, space);
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Takes 1 from the width of the widest column that may shrink. Repeats this until the table fits
/// or no column may shrink.
fn shrink(widths: &mut [usize], header: &[Column], columns: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(columns);
    while excess > 0 {
        let widest = widths
            .iter_mut()
            .zip(header)
            .filter(|(columns, column)| column.shrinks != Shrinks::Never && **columns > NARROWEST)
            .max_by_key(|(columns, _)| **columns);
        let Some((widest, _)) = widest else { return };
        *widest -= 1;
        excess -= 1;
    }
}

fn pad(text: &mut String, spaces: usize) {
    text.extend(std::iter::repeat_n(' ', spaces));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [Column; 3] = [
        Column::left("ID"),
        Column::name("Volume"),
        Column::right("Size"),
    ];

    fn row(cells: [&str; 3]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = [
            row(["3f9a01bc", "web1", "8.0 GiB"]),
            row(["00aa11bb", "日本", "512 B"]),
        ];
        assert_eq!(
            table(&HEADER, &rows, Some(80)),
            "ID        Volume     Size\n\
             3f9a01bc  web1    8.0 GiB\n\
             00aa11bb  日本      512 B\n"
        );
        let names = [vec!["a".to_owned(), String::new()]];
        assert_eq!(table(&HEADER[..2], &names, None), "ID  Volume\na\n");
    }

    #[test]
    fn names_are_shortened_only_on_a_terminal() {
        let name = "x".repeat(100);
        let rows = [row(["3f9a01bc", &name, "8.0 GiB"])];
        let narrow = table(&HEADER, &rows, Some(80));
        assert!(narrow.lines().all(|line| width(line) == 80), "{narrow}");
        assert!(table(&HEADER, &rows, None).contains(&name));
        let words = [Column::left("ID"), Column::words("Labels")];
        let rows = [vec![
            "3f9a01bc".to_owned(),
            "env=prod, tier=database".to_owned(),
        ]];
        assert!(table(&words, &rows, Some(24)).ends_with("3f9a01bc  env=prod…\n"));
        let rows = [row(["3f9a01bc", &name, "8.0 GiB"])];
        // Ids and sizes are never shortened, even if the terminal is too narrow for them.
        let tiny = table(&HEADER, &rows, Some(10));
        assert!(
            tiny.contains("3f9a01bc") && tiny.contains("8.0 GiB"),
            "{tiny}"
        );
    }
}
