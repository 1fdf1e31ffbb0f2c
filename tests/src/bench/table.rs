//! A table, for a terminal and for a page.

/// Text in rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Heads of the columns.
    pub header: Vec<String>,
    /// As many cells each as there are heads.
    pub rows: Vec<Vec<String>>,
    /// So many columns name things and stand at the left; the others hold numbers.
    pub names: usize,
}

impl Table {
    /// Columns in line, two spaces between them.
    pub fn text(&self) -> String {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |n: usize| lines().map(|line| line[n].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let mut shown = String::new();
            for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
                shown +=
                    &if n == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            }
            text += shown.trim_end();
            text.push('\n');
        }
        text
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let numbers = self.header.len() - self.names;
        let rule = format!("|{}{}\n", "---|".repeat(self.names), "---:|".repeat(numbers));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.header) + &rule + &rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = vec![cells(["direct", "1"]), cells(["nginx", "µ23"])];
        let table = Table { header: cells(["way", "n"]), rows, names: 1 };
        assert_eq!(table.text(), "way       n\ndirect    1\nnginx   µ23\n");
        assert_eq!(table.markdown(), "| way | n |\n|---|---:|\n| direct | 1 |\n| nginx | µ23 |\n");
    }
}
