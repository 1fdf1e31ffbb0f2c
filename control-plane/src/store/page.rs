//! Pages of lists. Each page begins behind the item with which the one before ended, by the value that
//! the list is ordered by and then by id: whatever is added or removed meanwhile, no item that stays
//! is left out or comes twice.

use serde::{Deserialize, Serialize};
use sqlx::{Row as _, any::AnyRow};

use super::{Read, Result, signed, text};

/// Something that a list can be ordered by.
#[derive(Debug)]
pub(crate) struct Column {
    /// As the API calls it.
    pub(crate) name: &'static str,
    /// Never NULL.
    sql: &'static str,
    is_number: bool,
}

impl Column {
    pub(crate) const fn text(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, is_number: false }
    }

    /// Can a page of this order end at such a value?
    pub(crate) fn fits(&self, key: &Key) -> bool {
        matches!(key, Key::Number(_)) == self.is_number
    }

    pub(crate) const fn number(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, is_number: true }
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Items, at most.
    pub(crate) limit: usize,
    pub(crate) column: &'static Column,
    pub(crate) is_descending: bool,
    /// Where the page before ended.
    pub(crate) after: Option<Position>,
}

/// Where a page ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) key: Key,
    pub(crate) id: String,
}

impl Position {
    pub(crate) fn new(key: impl Into<Key>, id: impl ToString) -> Self {
        Self { key: key.into(), id: id.to_string() }
    }
}

impl From<u64> for Key {
    fn from(number: u64) -> Self {
        Self::Number(signed(number))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(text.to_ascii_lowercase())
    }
}

/// What the list is ordered by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Key {
    Number(i64),
    Text(String),
}

/// A page.
#[derive(Debug)]
pub(crate) struct Slice<T> {
    pub(crate) items: Vec<T>,
    /// Where it ends, if there are more.
    pub(crate) end: Option<Position>,
}

impl<T> Slice<T> {
    /// A page of what is at hand as a whole.
    pub(crate) fn of(items: Vec<T>, page: &Page, position: impl Fn(&T) -> Position) -> Self {
        let mut placed: Vec<_> = items.into_iter().map(|item| (position(&item), item)).collect();
        placed.sort_by(|(a, _), (b, _)| if page.is_descending { b.cmp(a) } else { a.cmp(b) });
        let is_behind = |at: &Position| match &page.after {
            None => true,
            Some(after) if page.is_descending => at < after,
            Some(after) => at > after,
        };
        placed.retain(|(at, _)| is_behind(at));
        let is_more = placed.len() > page.limit;
        placed.truncate(page.limit);
        let end = placed.last().filter(|_| is_more).map(|(at, _)| at.clone());
        Self { items: placed.into_iter().map(|(_, item)| item).collect(), end }
    }

    pub(crate) fn map<U>(self, view: impl FnMut(T) -> U) -> Slice<U> {
        Slice { items: self.items.into_iter().map(view).collect(), end: self.end }
    }
}

/// A value in a condition.
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// `SELECT … FROM … WHERE …`, one page of it.
pub(super) struct Select {
    columns: &'static str,
    from: &'static str,
    id: &'static str,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Select {
    /// `id` names the column that tells the items apart.
    pub(super) fn new(columns: &'static str, from: &'static str, id: &'static str) -> Self {
        Self { columns, from, id, conditions: Vec::new(), values: Vec::new() }
    }

    /// Adds a condition in which each `?` stands for one of the values, in order.
    pub(super) fn and(mut self, condition: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.values.extend(values);
        let mut number = self.values.len() - condition.matches('?').count();
        let mut parts = condition.split('?');
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            number += 1;
            sql += &format!("${number}{part}");
        }
        self.conditions.push(sql);
        self
    }

    /// Adds a condition if there is a value for it.
    pub(super) fn and_if(self, condition: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.and(condition, [Value::Text(value.to_string())]),
            None => self,
        }
    }

    /// Leaves only rows where one of the columns contains the text; ASCII letters in either case.
    pub(super) fn search(self, columns: &[&str], text: Option<&str>) -> Self {
        let Some(text) = text else { return self };
        let mut pattern = "%".to_owned();
        for c in text.to_ascii_lowercase().chars() {
            if matches!(c, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('%');
        let any: Vec<_> =
            columns.iter().map(|column| format!("LOWER({column}) LIKE ? ESCAPE '\\'")).collect();
        let values = columns.iter().map(|_| Value::Text(pattern.clone()));
        self.and(&format!("({})", any.join(" OR ")), values)
    }

    /// Asks for a page.
    pub(super) async fn page<T>(
        mut self,
        db: &mut impl Read,
        page: &Page,
        read: impl Fn(&AnyRow) -> Result<T>,
    ) -> Result<Slice<T>> {
        let (key, id) = (page.column.sql, self.id);
        let (direction, relation) = if page.is_descending { ("DESC", "<") } else { ("ASC", ">") };
        if let Some(Position { key: at, id: at_id }) = page.after.clone() {
            let at = match at {
                Key::Text(text) => Value::Text(text),
                Key::Number(number) => Value::Number(number),
            };
            self = self.and(&format!("({key}, {id}) {relation} (?, ?)"), [at, Value::Text(at_id)]);
        }
        let Self { columns, from, conditions, values, .. } = self;
        let conditions = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        // One more shows whether there are more.
        let limit = page.limit + 1;
        // Only constants are part of the text; values are bound.
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {columns}, {key} AS page_key, {id} AS page_id FROM {from} {conditions}
             ORDER BY {key} {direction}, {id} {direction} LIMIT {limit}"
        ));
        let mut query = sqlx::query(sql);
        for value in values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        let mut rows = query.fetch_all(db.connection()).await?;
        let is_more = rows.len() > page.limit;
        rows.truncate(page.limit);
        let end = rows.last().filter(|_| is_more).map(|row| position(row, page.column));
        let items = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(Slice { items, end: end.transpose()? })
    }
}

fn position(row: &AnyRow, column: &Column) -> Result<Position> {
    let key = match column.is_number {
        true => Key::Number(row.try_get("page_key")?),
        false => Key::Text(text(row, "page_key")?),
    };
    Ok(Position { key, id: text(row, "page_id")? })
}

/// Which of the things that end are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Neither revoked nor expired.
    #[default]
    Live,
    /// Revoked or expired.
    Ended,
    /// Both.
    All,
}

impl State {
    pub(crate) fn shows(self, is_live: bool) -> bool {
        match self {
            Self::All => true,
            Self::Live => is_live,
            Self::Ended => !is_live,
        }
    }
}
