//! The numbers that a figure shows, as CSV and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::figure::{Axis, Content, Figure, Panel, Point, Series};

const HEADER: &str = "panel,series,x,x_low,x_high,y,y_low,y_high,label\n";

/// One row a point or cell: `panel,series,x,x_low,x_high,y,y_low,y_high,label`. Categories are written by their names;
/// the value of a cell is its `label`. What was not measured is empty.
pub(crate) fn to_csv(figure: &Figure) -> String {
    let mut csv = HEADER.to_owned();
    for panel in &figure.panels {
        for one in panel.series() {
            one.points.iter().for_each(|point| row(&mut csv, panel, &one.name, point));
        }
        if let Content::Heat(heat) = &panel.content {
            for (place, values) in heat.values.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    let label = value.map(plain).unwrap_or_default();
                    let point = Point::new(column as f64, place as f64, None).labelled(label);
                    row(&mut csv, panel, &heat.label, &point);
                }
            }
        }
    }
    csv
}

fn row(csv: &mut String, panel: &Panel, series: &str, point: &Point) {
    let end = |interval: Option<[f64; 2]>, end: usize| interval.map(|ends| plain(ends[end])).unwrap_or_default();
    let fields = [
        panel.title.clone(),
        series.to_owned(),
        on_axis(&panel.x, point.x),
        end(point.x_interval, 0),
        end(point.x_interval, 1),
        point.y.map(|y| on_axis(&panel.y, y)).unwrap_or_default(),
        end(point.y_interval, 0),
        end(point.y_interval, 1),
        point.label.clone(),
    ];
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(csv, "{}", fields.join(","));
}

/// A value of an axis: a number, or the name at its place.
fn on_axis(axis: &Axis, value: f64) -> String {
    match axis.names() {
        Some(names) => names.get(value.round().max(0.0) as usize).cloned().unwrap_or_default(),
        None => plain(value),
    }
}

/// A number in full; nothing if it is none.
fn plain(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

/// A field of CSV (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Title, caption, and for every panel its axes and what stands between them.
pub(crate) fn to_json(figure: &Figure) -> Value {
    let panels: Value = figure.panels.iter().map(panel_json).collect();
    json!({"name": figure.name, "title": figure.title, "caption": figure.caption, "panels": panels})
}

fn panel_json(panel: &Panel) -> Value {
    let mut fields = json!({"title": panel.title, "x": axis_json(&panel.x), "y": axis_json(&panel.y)});
    match &panel.content {
        Content::Series(series) => fields["series"] = series.iter().map(series_json).collect(),
        Content::Heat(heat) => {
            fields["value"] = json!(heat.label);
            fields["values"] = json!(heat.values);
        }
    }
    fields
}

fn series_json(series: &Series) -> Value {
    json!({"name": series.name, "points": series.points.iter().map(point_json).collect::<Value>()})
}

fn axis_json(axis: &Axis) -> Value {
    match axis.names() {
        Some(names) => json!({"label": axis.label, "categories": names}),
        None => json!({"label": axis.label}),
    }
}

fn point_json(point: &Point) -> Value {
    let mut fields = json!({"x": point.x, "y": point.y});
    if let Some(interval) = point.x_interval {
        fields["x_interval"] = json!(interval);
    }
    if let Some(interval) = point.y_interval {
        fields["y_interval"] = json!(interval);
    }
    if let Some(spread) = point.spread {
        fields["covariance"] = json!([[spread.x, spread.covariance], [spread.covariance, spread.y]]);
    }
    if !point.label.is_empty() {
        fields["label"] = json!(point.label);
    }
    fields
}
