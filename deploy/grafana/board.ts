/** Dashboards in a few words, and what Grafana makes of them. */

import { ReduceDataOptionsBuilder } from "@grafana/grafana-foundation-sdk/common";
import {
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  RowBuilder,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeSeriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** A PromQL expression and what its series are called. */
export type Query = readonly [expression: string, legend: string];

/** A panel. */
export interface Panel {
  readonly title: string;
  /** What it says, and when to worry. */
  readonly about: string;
  /** One of Grafana's units. */
  readonly unit: string;
  /** Default: lines over time. */
  readonly kind?: "lines" | "number" | "table";
  /** Of 24 columns. Default: 8. */
  readonly width?: number;
  /** Whether traces are linked from its points. */
  readonly hasExemplars?: boolean;
  readonly queries: readonly Query[];
}

/** A dashboard: rows of panels. */
export interface Board {
  readonly uid: string;
  readonly title: string;
  readonly about: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[];
}

const datasource = { type: "prometheus", uid: "$datasource" };

/** What Grafana imports. */
export function buildDashboard({ uid, title, about, rows }: Board): Dashboard {
  const builder = new DashboardBuilder(`Tollgate / ${title}`)
    .uid(uid)
    .description(about)
    .tags(["tollgate"])
    .refresh("30s")
    .time({ from: "now-3h", to: "now" })
    .timezone("browser")
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(new DatasourceVariableBuilder("datasource").label("Prometheus").type("prometheus"))
    .link(
      new DashboardLinkBuilder("Tollgate")
        .type(DashboardLinkType.Dashboards)
        .tags(["tollgate"])
        .asDropdown(true)
        .keepTime(true),
    );
  for (const row of rows) {
    builder.withRow(new RowBuilder(row.title));
    for (const panel of row.panels) builder.withPanel(panelOf(panel));
  }
  return builder.build();
}

function panelOf(panel: Panel) {
  const { kind = "lines", width = 8, title, about, unit } = panel;
  const builder = kind === "number" ? numberOf() : kind === "table" ? new TableBuilder() : linesOf(panel);
  builder
    .title(title)
    .description(about)
    .unit(unit)
    .datasource(datasource)
    .span(width)
    .height(kind === "number" ? 4 : 8);
  for (const [index, query] of panel.queries.entries()) builder.withTarget(targetOf(query, index, panel));
  return builder;
}

function numberOf(): StatBuilder {
  return new StatBuilder().reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]));
}

function linesOf({ unit }: Panel): TimeSeriesBuilder {
  const builder = new TimeSeriesBuilder().fillOpacity(10).spanNulls(false);
  return unit === "percentunit" ? builder.min(0) : builder;
}

function targetOf([expression, legend]: Query, index: number, { kind, hasExemplars }: Panel): DataqueryBuilder {
  const target = new DataqueryBuilder()
    .refId(String.fromCharCode("A".charCodeAt(0) + index))
    .datasource(datasource)
    .expr(expression)
    .legendFormat(legend);
  if (kind === "table") return target.instant().format(PromQueryFormat.Table);
  return hasExemplars === true ? target.exemplar(true) : target;
}
