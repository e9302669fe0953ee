# Computes with R's survival package what tests/analysis/test_survival_reference.py compares.
# Usage: Rscript r_reference.R DIRECTORY > expected.csv
# DIRECTORY holds cases.csv and one CSV per data set; the result has one row per number: case, quantity, value.
suppressPackageStartupMessages(library(survival))
directory <- commandArgs(trailingOnly = TRUE)[1]
cases <- read.csv(file.path(directory, "cases.csv"), stringsAsFactors = FALSE)
tight <- coxph.control(eps = 1e-13, toler.chol = 1e-14, iter.max = 200)
cat("case,quantity,value\n")

for (row in seq_len(nrow(cases))) {
  case <- cases[row, ]
  emit <- function(quantity, value) {
    text <- ifelse(is.na(value), "", formatC(value, digits = 15, format = "g", width = 1))
    cat(paste0(row - 1, ",", quantity, ",", text, "\n"), sep = "")
  }
  d <- read.csv(file.path(directory, paste0(case$dataset, ".csv")), stringsAsFactors = FALSE)
  d$.t <- d[[case$time]]
  d$.e <- as.integer(d[[case$event]] == case$code)
  d$.g <- factor(d[[case$group]], levels = sort(unique(d[[case$group]]), method = "radix"))
  d$.s <- if (nzchar(case$stratum)) d[[case$stratum]] else 1
  times <- as.numeric(quantile(d$.t, c(0.1, 0.4, 0.75), type = 1))
  marks <- c(times, 0, times[2] + 0.5)

  curve <- function(fit, name) {
    # not quantile(fit, 0.5): it interpolates where a bound's curve is not monotone (leukemia: 48 for 45)
    table <- summary(fit)$table
    emit(paste0(name, ".n"), fit$n)
    emit(paste0(name, ".events"), sum(fit$n.event))
    emit(paste0(name, ".median"), table[["median"]])
    emit(paste0(name, ".median_lower"), table[["0.95LCL"]])
    emit(paste0(name, ".median_upper"), table[["0.95UCL"]])
    emit(paste0(name, ".steps"), length(fit$time))
    emit(paste0(name, ".sum_surv"), sum(fit$surv))
    emit(paste0(name, ".sum_lower"), sum(fit$lower, na.rm = TRUE))
    emit(paste0(name, ".sum_upper"), sum(fit$upper, na.rm = TRUE))
    emit(paste0(name, ".sum_risk"), sum(fit$n.risk))
    last <- max(fit$time)
    for (i in seq_along(marks)) {
      if (marks[i] > last) next
      s <- summary(fit, times = marks[i])
      for (what in c("n.risk", "surv", "lower", "upper")) {
        emit(paste0(name, ".at", i - 1, ".", sub("[.]", "_", what)), s[[what]])
      }
    }
  }
  for (type in c("log-log", "log", "plain")) {
    curve(survfit(Surv(.t, .e) ~ 1, d, conf.type = type), paste0("km.", type, ".All"))
    for (level in levels(d$.g)) {
      curve(survfit(Surv(.t, .e) ~ 1, d[!is.na(d$.g) & d$.g == level, ], conf.type = type),
            paste0("km.", type, ".", level))
    }
    curve(survfit(Surv(.t, 1 - .e) ~ 1, d, conf.type = type), paste0("reverse.", type, ".All"))
  }

  test <- function(fit, name) {
    sums <- function(x) if (is.matrix(x)) rowSums(x) else x
    observed <- sums(fit$obs)
    expected <- sums(fit$exp)
    emit(paste0(name, ".statistic"), fit$chisq)
    emit(paste0(name, ".p"), fit$pvalue)
    for (i in seq_along(observed)) {
      emit(paste0(name, ".observed", i - 1), observed[i])
      emit(paste0(name, ".expected", i - 1), expected[i])
    }
    score <- seq_along(observed)
    trend <- sum(score * (observed - expected))^2 / as.numeric(score %*% fit$var %*% score)
    emit(paste0(name, ".trend"), trend)
  }
  test(survdiff(Surv(.t, .e) ~ .g, d), "logrank")
  test(survdiff(Surv(.t, .e) ~ .g, d, rho = 1), "logrank.rho1")
  test(survdiff(Surv(.t, .e) ~ .g, d, rho = 0.5), "logrank.rho05")
  if (nzchar(case$stratum)) {
    test(survdiff(Surv(.t, .e) ~ .g + strata(.s), d), "logrank.strata")
    test(survdiff(Surv(.t, .e) ~ .g + strata(.s), d, rho = 1), "logrank.strata.rho1")
  }

  for (level in levels(d$.g)) {
    part <- d[!is.na(d$.g) & d$.g == level, ]
    table <- summary(survfit(Surv(.t, .e) ~ 1, part), rmean = case$tau)$table
    emit(paste0("rmst.", level, ".rmst"), table[["rmean"]])
    emit(paste0("rmst.", level, ".se"), table[["se(rmean)"]])
  }

  terms <- strsplit(case$covariates, " ")[[1]]
  if (nzchar(case$factor)) {
    d$.f <- factor(d[[case$factor]], levels = sort(unique(d[[case$factor]]), method = "radix"))
    terms <- c(terms, ".f")
  }
  models <- list(efron = "", breslow = "", strata = "+ strata(.s)")
  for (name in names(models)) {
    if (name == "strata" && (!nzchar(case$stratum) || case$stratum == case$factor)) next
    formula <- as.formula(paste("Surv(.t, .e) ~", paste(terms, collapse = " + "), models[[name]]))
    fit <- coxph(formula, d, ties = if (name == "breslow") "breslow" else "efron", control = tight)
    s <- summary(fit)
    key <- paste0("cox.", name)
    for (i in seq_along(fit$coefficients)) {
      emit(paste0(key, ".", i - 1, ".coef"), s$coefficients[i, "coef"])
      emit(paste0(key, ".", i - 1, ".se"), s$coefficients[i, "se(coef)"])
      emit(paste0(key, ".", i - 1, ".z"), s$coefficients[i, "z"])
      emit(paste0(key, ".", i - 1, ".p"), s$coefficients[i, "Pr(>|z|)"])
      emit(paste0(key, ".", i - 1, ".hr"), s$conf.int[i, "exp(coef)"])
      emit(paste0(key, ".", i - 1, ".lower"), s$conf.int[i, "lower .95"])
      emit(paste0(key, ".", i - 1, ".upper"), s$conf.int[i, "upper .95"])
    }
    emit(paste0(key, ".n"), fit$n)
    emit(paste0(key, ".events"), fit$nevent)
    emit(paste0(key, ".loglik_null"), fit$loglik[1])
    emit(paste0(key, ".loglik"), fit$loglik[2])
    emit(paste0(key, ".lr"), s$logtest[["test"]])
    emit(paste0(key, ".wald"), fit$wald.test)
    emit(paste0(key, ".score"), fit$score)
    z <- cox.zph(fit)$table
    for (i in seq_len(nrow(z))) {
      emit(paste0("zph.", name, ".", i - 1, ".statistic"), z[i, "chisq"])
      emit(paste0("zph.", name, ".", i - 1, ".df"), z[i, "df"])
      emit(paste0("zph.", name, ".", i - 1, ".p"), z[i, "p"])
    }
  }
}
