import {
  isBinaryExpression,
  isBreakOrContinueStatement,
  isConditionalExpression,
  isExpressionStatement,
  isIfStatement,
  isImportDeclaration,
  isInterfaceDeclaration,
  isNumericLiteral,
  isPostfixUnaryExpression,
  isPrefixUnaryExpression,
  isThrowStatement,
  isTypeAliasDeclaration,
  isTypeNode,
  isWhileStatement,
} from 'typescript/unstable/ast/is';
import type { Node, SourceFile } from 'typescript/unstable/ast';

/** A small change of a source within one line. */
export interface Mutation {
  /** From 1. */
  readonly line: number;
  /** The changed line, without indentation. */
  readonly before: string;
  readonly after: string;
  /** The whole source with the change. */
  readonly source: string;
}

const OPERATORS: ReadonlyMap<string, string> = new Map([
  ['<', '<='],
  ['<=', '<'],
  ['>', '>='],
  ['>=', '>'],
  ['===', '!=='],
  ['!==', '==='],
  ['&&', '||'],
  ['||', '&&'],
  ['+', '-'],
  ['-', '+'],
  ['*', '/'],
  ['/', '*'],
  ['%', '*'],
  ['&', '|'],
  ['|', '&'],
  ['<<', '>>'],
  ['>>', '<<'],
  ['>>>', '<<'],
  ['+=', '-='],
  ['-=', '+='],
  ['++', '--'],
  ['--', '++'],
]);

const WORDS: ReadonlyMap<string, string> = new Map([
  ['true', 'false'],
  ['false', 'true'],
]);

/** All mutations of a source. Few of them do not parse. Types, imports and comments stay as they are. */
export function mutationsOf(file: SourceFile): Mutation[] {
  const { text } = file;
  const mutations: Mutation[] = [];

  const replace = (start: number, end: number, replacement: string): void => {
    if (text.slice(start, end).includes('\n')) return;
    const source = text.slice(0, start) + replacement + text.slice(end);
    const line = text.slice(0, start).split('\n').length;
    const lineOf = (whole: string): string => (whole.split('\n')[line - 1] ?? '').trim();
    mutations.push({ line, before: lineOf(text), after: lineOf(source), source });
  };
  const replaceNode = (node: Node, change: (text: string) => string | undefined): void => {
    const start = node.getStart(file);
    const changed = change(text.slice(start, node.end));
    if (changed !== undefined) replace(start, node.end, changed);
  };
  // The negation of other conditions is that of their operator.
  const negate = (condition: Node): void => {
    const hasOwn = isBinaryExpression(condition) || isPrefixUnaryExpression(condition);
    if (!hasOwn) replaceNode(condition, (found) => `!(${found})`);
  };

  const visit = (node: Node): void => {
    if (isTypeNode(node) || isImportDeclaration(node)) return;
    if (isInterfaceDeclaration(node) || isTypeAliasDeclaration(node)) return;
    if (isBinaryExpression(node)) {
      const joinsText = /['"`]$/u.test(node.left.getText(file)) && /^['"`]/u.test(node.right.getText(file));
      if (!joinsText) replaceNode(node.operatorToken, (operator) => OPERATORS.get(operator));
    } else if (isPrefixUnaryExpression(node)) {
      replaceNode(node, (found) => (found.startsWith('!') ? found.slice(1) : undefined));
      replaceNode(node, (found) => mapped(found, /^(?:\+\+|--)/u));
    } else if (isPostfixUnaryExpression(node)) {
      replaceNode(node, (found) => mapped(found, /(?:\+\+|--)$/u));
    } else if (isNumericLiteral(node)) {
      replaceNode(node, (found) => otherNumber(Number(found.replaceAll('_', ''))));
    } else if (isIfStatement(node) || isWhileStatement(node)) {
      negate(node.expression);
    } else if (isConditionalExpression(node)) {
      negate(node.condition);
    } else if (isExpressionStatement(node) || isThrowStatement(node) || isBreakOrContinueStatement(node)) {
      replaceNode(node, () => ';');
    }
    if (node.end - node.getStart(file) <= 'false'.length) replaceNode(node, (found) => WORDS.get(found));
    node.forEachChild(visit);
  };
  file.forEachChild(visit);
  return mutations;
}

function mapped(text: string, operator: RegExp): string | undefined {
  return operator.test(text) ? text.replace(operator, (found) => OPERATORS.get(found) ?? found) : undefined;
}

/** Large numbers are mostly sizes and times, where one more has no effect. */
function otherNumber(number: number): string {
  return String(number < 10 ? number + 1 : number * 10);
}
