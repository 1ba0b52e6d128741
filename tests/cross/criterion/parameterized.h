/* SPDX-License-Identifier: MIT
 *
 * parameterized.h - Criterion's tests over a table, for cross builds; see criterion.h.
 */
#ifndef MODA_TESTS_CROSS_PARAMETERIZED_H
#define MODA_TESTS_CROSS_PARAMETERIZED_H

#include "criterion.h"

#define ParameterizedTestParameters(suite_, name_)                                                           \
    static struct criterion_test_params cross_parameters_##suite_##_##name_(void)

#define cr_make_param_array(type, array, count)                                                              \
    ((struct criterion_test_params){.size = sizeof(type), .params = (array), .length = (count)})

#define ParameterizedTest(parameter_, suite_, name_, ...)                                                    \
    static void cross_body_##suite_##_##name_(parameter_);                                                   \
    static void cross_run_##suite_##_##name_(void *row) {                                                    \
        cross_body_##suite_##_##name_(row);                                                                  \
    }                                                                                                        \
    CROSS_TEST(suite_, name_, cross_run_##suite_##_##name_, cross_parameters_##suite_##_##name_,             \
               __VA_ARGS__)                                                                                  \
    static void cross_body_##suite_##_##name_(parameter_)

#endif
