"""What a statement may be made of. What is not in these lists is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlglot import exp


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NODES: Final = frozenset(
    {
        # Queries and their clauses
        *(exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Subquery, exp.With, exp.CTE, exp.Values),
        *(exp.From, exp.Join, exp.Lateral, exp.Table, exp.TableAlias, exp.Where, exp.Group, exp.Having, exp.Qualify),
        *(
            exp.Order,
            exp.Ordered,
            exp.Limit,
            exp.Offset,
            exp.Fetch,
            exp.LimitOptions,
            exp.Distinct,
            exp.Cube,
            exp.Rollup,
        ),
        *(exp.GroupingSets,),
        # Names and values
        *(exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Literal, exp.Null, exp.Boolean, exp.Var, exp.Tuple),
        *(exp.Interval, exp.DataType, exp.DataTypeParam, exp.National),
        # Operators
        *(exp.Paren, exp.Not, exp.Neg, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between),
        *(exp.Like, exp.ILike, exp.SimilarTo, exp.Glob, exp.Escape, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Add, exp.Sub),
        *(exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.DPipe, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor),
        *(exp.BitwiseNot, exp.BitwiseLeftShift, exp.BitwiseRightShift, exp.Any, exp.All, exp.AtTimeZone, exp.Overlaps),
        *(exp.Bracket, exp.Slice, exp.TimeUnit, exp.IntervalSpan, exp.Array, exp.JSONPath, exp.JSONPathRoot),
        *(exp.JSONPathKey, exp.JSONPathSubscript),
        # Of aggregates and windows
        *(exp.Window, exp.WindowSpec, exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls),
    }
)

FUNCTIONS: Final = frozenset(
    {
        *(exp.And, exp.Or, exp.Xor, exp.Case, exp.If, exp.Cast, exp.TryCast, exp.Coalesce, exp.Nullif, exp.Exists),
        *(exp.Greatest, exp.Least, exp.Typeof, exp.Collate, exp.Unnest),
        # Aggregates and windows
        *(exp.Count, exp.CountIf, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Median, exp.Mode, exp.Stddev, exp.StddevPop),
        *(exp.StddevSamp, exp.Variance, exp.VariancePop, exp.Corr, exp.CovarPop, exp.CovarSamp, exp.GroupConcat),
        *(exp.ArrayAgg, exp.AnyValue, exp.First, exp.Last, exp.ArgMax, exp.ArgMin, exp.PercentileCont),
        *(exp.PercentileDisc, exp.Quantile, exp.ApproxQuantile, exp.ApproxDistinct, exp.LogicalAnd, exp.LogicalOr),
        *(exp.Grouping, exp.Skewness, exp.Kurtosis, exp.BitwiseAndAgg, exp.BitwiseOrAgg, exp.BitwiseXorAgg),
        *(exp.RegrSlope, exp.RegrIntercept, exp.RegrR2, exp.RegrCount, exp.RegrAvgx, exp.RegrAvgy),
        *(exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile, exp.Lag, exp.Lead),
        *(exp.FirstValue, exp.LastValue, exp.NthValue),
        # Numbers
        *(exp.Abs, exp.Ceil, exp.Floor, exp.Round, exp.Trunc, exp.Sign, exp.Sqrt, exp.Cbrt, exp.Exp, exp.Ln, exp.Log),
        *(exp.Pow, exp.Pi, exp.Sin, exp.Cos, exp.Tan, exp.Asin, exp.Acos, exp.Atan, exp.Atan2, exp.Radians),
        *(exp.Degrees, exp.Rand, exp.IsNan, exp.IsInf, exp.WidthBucket, exp.SafeDivide, exp.ToNumber, exp.NumberToStr),
        # Text
        *(exp.Lower, exp.Upper, exp.Initcap, exp.Length, exp.Trim, exp.Substring, exp.Left, exp.Right, exp.Replace),
        *(exp.Reverse, exp.Concat, exp.ConcatWs, exp.StrPosition, exp.Split, exp.SplitPart, exp.Pad, exp.Ascii),
        *(exp.Unicode, exp.Chr, exp.StartsWith, exp.EndsWith, exp.Contains, exp.Translate, exp.Levenshtein, exp.Hex),
        *(exp.RegexpLike, exp.RegexpILike, exp.RegexpExtract, exp.RegexpReplace, exp.RegexpFullMatch, exp.RegexpCount),
        *(
            exp.Format,
            exp.ToChar,
            exp.MD5,
            exp.Overlay,
            exp.ArrayToString,
            exp.StringToArray,
            exp.JarowinklerSimilarity,
        ),
        # Dates and times
        *(exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime, exp.Localtime),
        *(exp.Localtimestamp, exp.Extract, exp.Date, exp.Datetime, exp.Time, exp.Timestamp, exp.DateTrunc),
        *(exp.TimestampTrunc, exp.DateAdd, exp.DateSub, exp.DateDiff, exp.TimestampDiff, exp.DateFromParts),
        *(exp.TimestampFromParts, exp.Year, exp.Quarter, exp.Month, exp.Week, exp.WeekOfYear, exp.Day, exp.DayOfMonth),
        *(exp.DayOfWeek, exp.DayOfWeekIso, exp.DayOfYear, exp.Dayname, exp.Monthname, exp.LastDay, exp.Hour),
        *(exp.Minute, exp.Second, exp.TimeToStr, exp.StrToTime, exp.StrToDate, exp.TsOrDsToDate, exp.UnixToTime),
        *(exp.TimeToUnix, exp.TsOrDsToTimestamp, exp.TsOrDsAdd, exp.TsOrDsDiff, exp.TimestampAdd, exp.TimestampSub),
        *(exp.DateBin, exp.MakeInterval, exp.JustifyDays, exp.JustifyHours, exp.JustifyInterval, exp.UnixSeconds),
        # Arrays and JSON
        *(exp.Array, exp.ArraySize, exp.ArrayContains, exp.ArrayContainsAll, exp.ArrayOverlaps, exp.ArrayDistinct),
        *(exp.ArraySort, exp.ArrayMin, exp.ArrayMax, exp.ArrayPosition, exp.JSONExtract, exp.JSONExtractScalar),
        *(exp.JSONBExtract, exp.JSONBExtractScalar, exp.JSONBContains, exp.JSONType),
    }
)

COMMON_NAMES: Final = _words(
    """abs ceil ceiling floor round mod power degrees radians sinh cosh tanh log2 log10
    octet_length char_length character_length ltrim rtrim btrim instr position printf format quote nullif
    julianday date time datetime strftime date_part age to_timestamp to_date to_char make_date make_time
    string_agg group_concat bool_and bool_or every mode stddev variance"""
)
NAMES: Final[Mapping[str, frozenset[str]]] = {
    "duckdb": COMMON_NAMES
    | _words(
        """list_avg list_sum list_min list_max list_contains list_distinct list_sort len strptime epoch epoch_ms dayname
        monthname isodow isoyear weekday yearweek century decade millennium date_sub date_diff date_add
        datediff datepart datetrunc last_day age mad entropy favg fsum kahan_sum product sem geomean geometric_mean
        approx_count_distinct quantile_cont quantile_disc arg_max arg_min max_by min_by bit_and bit_or bit_xor
        jaccard jaro_similarity damerau_levenshtein editdist3 hamming strip_accents regexp_matches string_split
        str_split contains prefix suffix starts_with ends_with even gcd lcm factorial bit_count bar
        time_bucket try_strptime isfinite isnan isinf nextafter any_value first last list histogram"""
    ),
    "sqlite": COMMON_NAMES
    | _words(
        """total iif ifnull typeof unicode char hex substr likely unlikely likelihood timediff json_extract
        json_array_length json_type json_valid sign unixepoch trunc pi acos asin atan atan2 acosh asinh atanh"""
    ),
    "postgres": COMMON_NAMES
    | _words(
        """to_number date_bin make_interval make_timestamp make_timestamptz isfinite scale div gcd lcm factorial cot
        bit_and bit_or json_array_length jsonb_array_length json_typeof jsonb_typeof json_extract_path_text
        jsonb_extract_path_text array_length cardinality array_position regexp_match regexp_matches regexp_substr
        starts_with split_part strpos num_nonnulls num_nulls cbrt erf statement_timestamp transaction_timestamp
        regr_slope regr_intercept regr_r2 percentile_cont percentile_disc rank dense_rank percent_rank cume_dist
        justify_days justify_hours justify_interval"""
    ),
}
"""Functions that sqlglot has no class of their own for, by their names in lower case."""

_TYPES: Final = _words(
    """BIGINT BIGDECIMAL BOOLEAN CHAR DATE DATETIME DECIMAL DOUBLE FLOAT INT INT128 INTERVAL JSON JSONB MEDIUMINT NCHAR
    NVARCHAR SMALLINT TEXT TIME TIMETZ TIMESTAMP TIMESTAMPTZ TIMESTAMPNTZ TIMESTAMPLTZ TIMESTAMP_S TIMESTAMP_MS
    TIMESTAMP_NS TINYINT UBIGINT UINT UINT128 USMALLINT UTINYINT UUID VARCHAR ARRAY LIST"""
)
TYPES: Final = frozenset(exp.DType[name] for name in _TYPES)
"""What a value may be cast to. PostgreSQL's names of objects, such as ``regclass``, look into the catalogue."""

_UNITS: Final = _words(
    """microsecond millisecond second minute hour day week month quarter year decade century millennium epoch dow doy
    isodow isoyear julian"""
)
WORDS: Final = (
    _UNITS
    | {f"{unit}s" for unit in _UNITS}
    | _words("timezone timezone_hour timezone_minute dayofweek dayofyear ms us weekday yearweek")
    | _words("nocase binary rtrim both leading trailing")
)
"""What may stand bare in a statement without being the name of anything: units of time, collations."""

VOLATILE: Final = (
    *(exp.Rand, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime, exp.Localtime),
    exp.Localtimestamp,
)
"""What gives another value without a write."""
VOLATILE_NAMES: Final = frozenset({"age", "now", "random", "statement_timestamp", "transaction_timestamp"})

MAX_PAD: Final = 1_000
