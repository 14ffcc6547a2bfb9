import { Ajv } from 'ajv';
import type { ValidateFunction } from 'ajv';

// Fields, types and values of a dashboard of Grafana, as far as the dashboards in deploy/grafana use them: any other
// field is an error. Written after the JSON Schemas that Grafana publishes in grafana/grafana-foundation-sdk
// (jsonschema/dashboard, timeseries, stat, heatmap, statetimeline, bargauge and prometheus; June 2026, Apache 2.0),
// which are generated from kinds/dashboard/dashboard_kind.cue and the panelcfg.cue of each panel. A field that is
// missing here can be added if it is in those.

type Schema = Readonly<Record<string, unknown>>;
type Fields = Readonly<Record<string, Schema>>;

const text: Schema = { type: 'string' };
const flag: Schema = { type: 'boolean' };
const number: Schema = { type: 'number' };
const integer: Schema = { type: 'integer' };
const texts: Schema = listOf(text);

function listOf(items: Schema): Schema {
  return { type: 'array', items };
}

function oneOf(...values: readonly (string | number)[]): Schema {
  return { enum: values };
}

/** An object with these fields only. */
function object(required: Fields, optional: Fields = {}): Schema {
  const properties = { ...required, ...optional };
  return { type: 'object', additionalProperties: false, required: Object.keys(required), properties };
}

const DATA_SOURCE = object({}, { type: text, uid: text });

const SCALE = object({ type: oneOf('linear', 'log', 'ordinal', 'symlog') }, { log: number });

const HIDE_FROM = object({ tooltip: flag, legend: flag, viz: flag });

const LEGEND = object(
  {
    displayMode: oneOf('list', 'table', 'hidden'),
    placement: oneOf('bottom', 'right'),
    showLegend: flag,
    calcs: texts,
  },
  { asTable: flag, sortBy: text, sortDesc: flag, width: number },
);

const TOOLTIP = object(
  { mode: oneOf('single', 'multi', 'none'), sort: oneOf('asc', 'desc', 'none') },
  { maxWidth: number, maxHeight: number, hideZeros: flag },
);

const REDUCE = object({ calcs: texts }, { values: flag, limit: number, fields: text });

const ORIENTATION = oneOf('auto', 'vertical', 'horizontal');

const SHOW = oneOf('auto', 'never', 'always');

/** `options`, and `fieldConfig.defaults.custom` if the panel has such settings. */
const PANELS: Readonly<Record<string, { readonly options: Schema; readonly custom: Schema | null }>> = {
  timeseries: {
    options: object({ legend: LEGEND, tooltip: TOOLTIP }),
    custom: object(
      {},
      {
        drawStyle: oneOf('line', 'bars', 'points'),
        lineWidth: number,
        lineStyle: object({}, { fill: oneOf('solid', 'dash', 'dot', 'square'), dash: listOf(number) }),
        fillOpacity: number,
        showPoints: SHOW,
        spanNulls: { type: ['boolean', 'number'] },
        stacking: object({}, { mode: oneOf('none', 'normal', 'percent'), group: text }),
        scaleDistribution: SCALE,
        hideFrom: HIDE_FROM,
      },
    ),
  },
  stat: {
    options: object(
      {
        graphMode: oneOf('none', 'line', 'area'),
        colorMode: oneOf('value', 'background', 'background_solid', 'none'),
        justifyMode: oneOf('auto', 'center'),
        textMode: oneOf('auto', 'value', 'value_and_name', 'name', 'none'),
        wideLayout: flag,
        showPercentChange: flag,
        percentChangeColorMode: oneOf('standard', 'inverted', 'same_as_value'),
        reduceOptions: REDUCE,
        orientation: ORIENTATION,
      },
      { text: object({}, { titleSize: number, valueSize: number, percentSize: number }) },
    ),
    custom: null,
  },
  bargauge: {
    options: object({
      displayMode: oneOf('basic', 'lcd', 'gradient'),
      valueMode: oneOf('color', 'text', 'hidden'),
      namePlacement: oneOf('auto', 'top', 'left', 'hidden'),
      showUnfilled: flag,
      sizing: oneOf('auto', 'manual'),
      minVizWidth: integer,
      minVizHeight: integer,
      maxVizHeight: integer,
      legend: LEGEND,
      reduceOptions: REDUCE,
      orientation: ORIENTATION,
    }),
    custom: null,
  },
  'state-timeline': {
    options: object(
      { showValue: SHOW, rowHeight: { type: 'number', maximum: 1 }, legend: LEGEND, tooltip: TOOLTIP },
      { mergeValues: flag, alignValue: oneOf('center', 'left', 'right'), perPage: number },
    ),
    custom: object(
      {},
      {
        lineWidth: { type: 'integer', maximum: 10 },
        fillOpacity: { type: 'integer', maximum: 100 },
        hideFrom: HIDE_FROM,
      },
    ),
  },
  heatmap: {
    options: object(
      {
        color: object(
          {
            scheme: text,
            fill: text,
            exponent: number,
            steps: { type: 'integer', minimum: 2, maximum: 128 },
            reverse: flag,
          },
          {
            mode: oneOf('opacity', 'scheme'),
            scale: oneOf('linear', 'exponential'),
            min: number,
            max: number,
          },
        ),
        showValue: SHOW,
        yAxis: object(
          {},
          {
            unit: text,
            reverse: flag,
            decimals: number,
            axisPlacement: oneOf('auto', 'top', 'right', 'bottom', 'left', 'hidden'),
          },
        ),
        legend: object({ show: flag }),
        tooltip: object(
          { mode: oneOf('single', 'multi', 'none') },
          { yHistogram: flag, showColorScale: flag },
        ),
        exemplars: object({ color: text }),
      },
      {
        calculate: flag,
        filterValues: object({}, { le: number, ge: number }),
        rowsFrame: object({}, { value: text, layout: oneOf('le', 'ge', 'unknown', 'auto') }),
        cellGap: { type: 'integer', minimum: 0, maximum: 25 },
        cellValues: object({}, { unit: text, decimals: number }),
      },
    ),
    custom: object({}, { scaleDistribution: SCALE, hideFrom: HIDE_FROM }),
  },
};

const MAPPING_RESULT = object({}, { text, color: text, icon: text, index: integer });

const FIELD_COLOR = object(
  { mode: oneOf('thresholds', 'palette-classic', 'palette-classic-by-name', 'fixed', 'shades') },
  { fixedColor: text, seriesBy: oneOf('min', 'max', 'last') },
);

function fieldConfig(custom: Schema | null): Schema {
  return object({
    defaults: object(
      {},
      {
        unit: text,
        decimals: number,
        min: number,
        max: number,
        noValue: text,
        color: FIELD_COLOR,
        mappings: listOf(
          object({
            type: { const: 'value' },
            options: { type: 'object', additionalProperties: MAPPING_RESULT },
          }),
        ),
        thresholds: object({
          mode: oneOf('absolute', 'percentage'),
          steps: listOf(object({ value: { type: ['number', 'null'] }, color: text })),
        }),
        ...(custom === null ? {} : { custom }),
      },
    ),
    overrides: listOf(
      object({
        matcher: object({ id: text }, { options: {} }),
        properties: listOf(object({ id: text }, { value: {} })),
      }),
    ),
  });
}

const QUERY = object(
  { expr: text },
  {
    refId: text,
    datasource: DATA_SOURCE,
    legendFormat: text,
    format: oneOf('time_series', 'table', 'heatmap'),
    instant: flag,
    range: flag,
    editorMode: oneOf('builder', 'code'),
  },
);

const GRID_POSITION = object({
  h: { type: 'integer', exclusiveMinimum: 0 },
  w: { type: 'integer', exclusiveMinimum: 0, maximum: 24 },
  x: { type: 'integer', minimum: 0, exclusiveMaximum: 24 },
  y: { type: 'integer', minimum: 0 },
});

/** One of these objects, told apart by its field `type`. */
function taggedUnion(kinds: readonly Schema[]): Schema {
  return { type: 'object', required: ['type'], discriminator: { propertyName: 'type' }, oneOf: kinds };
}

const PANEL_KINDS = Object.entries(PANELS).map(([type, { options, custom }]) =>
  object({
    type: { const: type },
    id: integer,
    title: text,
    description: text,
    datasource: DATA_SOURCE,
    pluginVersion: text,
    gridPos: GRID_POSITION,
    fieldConfig: fieldConfig(custom),
    options,
    targets: listOf(QUERY),
  }),
);

const ROW = object({
  type: { const: 'row' },
  id: integer,
  title: text,
  collapsed: flag,
  gridPos: GRID_POSITION,
  panels: listOf(taggedUnion(PANEL_KINDS)),
});

const TEXT_OR_TEXTS: Schema = { anyOf: [text, texts] };

const OPTION = object({ text: TEXT_OR_TEXTS, value: TEXT_OR_TEXTS }, { selected: flag });

const VARIABLE = object(
  { type: oneOf('query', 'datasource'), name: text },
  {
    label: text,
    description: text,
    hide: oneOf(0, 1, 2),
    skipUrlSync: flag,
    datasource: DATA_SOURCE,
    definition: text,
    query: { anyOf: [text, object({ qryType: integer, query: text, refId: text })] },
    current: OPTION,
    options: listOf(OPTION),
    multi: flag,
    includeAll: flag,
    allowCustomValue: flag,
    refresh: oneOf(0, 1, 2),
    sort: oneOf(0, 1, 2, 3, 4, 5, 6, 7, 8),
    regex: text,
  },
);

const ANNOTATION = object(
  { name: text, datasource: DATA_SOURCE, enable: flag, iconColor: text },
  { hide: flag, type: text, builtIn: number },
);

const LINK = object(
  {
    title: text,
    type: oneOf('link', 'dashboards'),
    icon: text,
    tooltip: text,
    tags: texts,
    asDropdown: flag,
    targetBlank: flag,
    includeVars: flag,
    keepTime: flag,
  },
  { url: text },
);

const DASHBOARD = object(
  {
    schemaVersion: integer,
    templating: object({}, { list: listOf(VARIABLE) }),
    annotations: object({}, { list: listOf(ANNOTATION) }),
  },
  {
    uid: text,
    title: text,
    description: text,
    tags: texts,
    timezone: text,
    editable: flag,
    graphTooltip: oneOf(0, 1, 2),
    time: object({ from: text, to: text }),
    timepicker: object({}, { hidden: flag, refresh_intervals: texts }),
    fiscalYearStartMonth: { type: 'integer', exclusiveMaximum: 12 },
    weekStart: text,
    refresh: text,
    version: integer,
    links: listOf(LINK),
    panels: listOf(taggedUnion([ROW, ...PANEL_KINDS])),
  },
);

/** Problems of a dashboard with Grafana's schema. */
export function schemaProblems(dashboard: unknown): string[] {
  validate ??= new Ajv({ discriminator: true, allErrors: true, allowUnionTypes: true }).compile(DASHBOARD);
  if (validate(dashboard)) return [];
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}

let validate: ValidateFunction | undefined;
