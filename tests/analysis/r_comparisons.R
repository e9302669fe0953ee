# Computes with base R what tests/analysis/test_comparisons.py compares.
# Usage: Rscript r_comparisons.R tables.csv > expected.csv (columns: table, quantity, value)
options(warn = -1)
tables <- read.csv(commandArgs(trailingOnly = TRUE)[1], stringsAsFactors = FALSE)
cat("table,quantity,value\n")
for (row in seq_len(nrow(tables))) {
  one <- tables[row, ]
  emit <- function(quantity, value) {
    cat(paste0(one$table, ",", quantity, ",", formatC(value, digits = 15, format = "g", width = 1), "\n"), sep = "")
  }
  x <- matrix(as.numeric(strsplit(one$counts, " ")[[1]]), one$rows, one$columns, byrow = TRUE)
  pearson <- chisq.test(x, correct = FALSE)
  emit("pearson_chi2.statistic", pearson$statistic)
  emit("pearson_chi2.p", pearson$p.value)
  emit("fisher_exact.p", fisher.test(x, workspace = 2e7)$p.value)
  some <- x > 0
  g2 <- 2 * sum(x[some] * log(x[some] / pearson$expected[some]))
  emit("likelihood_ratio.statistic", g2)
  emit("likelihood_ratio.p", pchisq(g2, prod(dim(x) - 1), lower.tail = FALSE))
  # the correlation of the scores over the subjects, as cor() sees them
  long <- cbind(rep(row(x), x), rep(col(x), x))
  m2 <- (sum(x) - 1) * cor(long[, 1], long[, 2])^2
  emit("linear_by_linear.statistic", m2)
  emit("linear_by_linear.p", pchisq(m2, 1, lower.tail = FALSE))
  if (ncol(x) == 2) {
    trend <- prop.trend.test(x[, 1], rowSums(x))
    emit("cochran_armitage.statistic", trend$statistic)
    emit("cochran_armitage.p", trend$p.value)
    for (i in seq_len(nrow(x))) {
      exact <- binom.test(x[i, 1], sum(x[i, ]))$conf.int
      score <- prop.test(x[i, 1], sum(x[i, ]), correct = FALSE)$conf.int
      emit(paste0("clopper_pearson.", i - 1, ".lower"), exact[1])
      emit(paste0("clopper_pearson.", i - 1, ".upper"), exact[2])
      emit(paste0("wilson.", i - 1, ".lower"), score[1])
      emit(paste0("wilson.", i - 1, ".upper"), score[2])
    }
  }
}
