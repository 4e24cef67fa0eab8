//! Columns of text, as Docker's tables have them, made to fit a terminal.

/// Least width of a column that something follows.
const LEAST: usize = 10;
/// Spaces between columns.
const GAP: usize = 3;
/// No column is cut to fewer characters than this, which an id has.
const SHORTEST: usize = 12;

/// Lays lines whose cells are parted by tabs out in columns. With a width, the widest cells are cut so that lines fit.
///
/// A line's last cell fills no column. Columns are of all lines: every line has the same cells, but for those that were
/// made so by the user's template.
pub fn columns(text: &str, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = text.lines().map(|line| line.split('\t').map(clean).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| length(cell)).max().unwrap_or(0))
        .collect();
    if let Some(width) = width {
        fit(&mut widths, width);
    }
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let cell = cut(cell, widths[at]);
            out.push_str(&cell);
            if at + 1 < row.len() {
                let filled = (widths[at] + GAP).max(LEAST);
                out.push_str(&" ".repeat(filled - length(&cell)));
            }
        }
        out.push('\n');
    }
    out
}

/// The same with columns of at least `least` characters and `gap` spaces between them, and nothing cut.
pub fn spread(text: &str, least: usize, gap: usize) -> String {
    let rows: Vec<Vec<String>> = text.lines().map(|line| line.split('\t').map(clean).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| length(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(|at| (width(at) + gap).max(least)).collect();
    rows.iter().fold(String::new(), |mut out, row| {
        for (at, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                out.push_str(&" ".repeat(widths[at] - length(cell)));
            }
        }
        out + "\n"
    })
}

/// Makes the widest columns narrower, one character at a time, until all fit.
fn fit(widths: &mut [usize], width: usize) {
    let total = |widths: &[usize]| -> usize {
        let last = widths.last().copied().unwrap_or(0);
        widths.iter().rev().skip(1).map(|w| (w + GAP).max(LEAST)).sum::<usize>() + last
    };
    while total(widths) > width {
        let Some(widest) = widths.iter_mut().max() else { return };
        if *widest <= SHORTEST {
            return;
        }
        *widest -= 1;
    }
}

/// A text of at most so many characters; what was cut shows.
pub fn cut(text: &str, most: usize) -> String {
    if length(text) <= most {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(most.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// How many columns a text takes. Most of what is shown is ASCII; a wide character counts as one.
fn length(text: &str) -> usize {
    text.chars().count()
}

/// Text from outside without what a terminal would take for a command.
pub fn printable(text: &str) -> String {
    clean(text)
}

/// Names and labels come from outside, and must not become commands to a terminal.
fn clean(cell: &str) -> String {
    cell.replace(|c: char| c.is_control(), "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let check = |text: &str, width: Option<usize>, expect: &str| assert_eq!(columns(text, width), expect, "{text}");
        let two = "REPOSITORY\tTAG\tSIZE\nalpine\tlatest\t8.31MB\n";
        check(two, None, "REPOSITORY   TAG       SIZE\nalpine       latest    8.31MB\n");
        check("A\tB\nx\ty\n", None, "A         B\nx         y\n");
        check("A\nlonger\n", None, "A\nlonger\n");
        check("", None, "");
        check("A\tB\n\u{1b}[31m\té\n", None, "A         B\n?[31m     é\n");
        check(two, Some(80), "REPOSITORY   TAG       SIZE\nalpine       latest    8.31MB\n");
        assert_eq!(spread("UID\tCMD\nroot\tsleep 1\n", 8, 1), "UID     CMD\nroot    sleep 1\n");
        let long = "A\tB\nabcdefghijklmnop\tabcdefghijklmnop\n";
        check(long, Some(31), "A                B\nabcdefghijklm…   abcdefghijklm…\n");
        check("A\tB\nabcdefghijklmnop\tz\n", Some(1), "A              B\nabcdefghijk…   z\n");
    }
}
