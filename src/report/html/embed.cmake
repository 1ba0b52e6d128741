# SPDX-License-Identifier: MIT
#
# embed.cmake - puts report.html, report.css and report.js together and makes of them a C source with the page
# before the data and the page after it. Run by the build:
#   cmake -DSOURCE=<this folder> -DOUTPUT=<file.c> -P embed.cmake
file(READ "${SOURCE}/report.html" page)
file(READ "${SOURCE}/report.css" style)
file(READ "${SOURCE}/report.js" script)
if(script MATCHES "</script" OR script MATCHES "@DATA@" OR style MATCHES "@DATA@")
  message(FATAL_ERROR "report.js and report.css must not hold '</script' or '@DATA@'")
endif()
string(REPLACE "@STYLE@" "${style}" page "${page}")
string(REPLACE "@SCRIPT@" "${script}" page "${page}")
string(FIND "${page}" "@DATA@" at)
if(at EQUAL -1)
  message(FATAL_ERROR "report.html has no place for the data")
endif()
string(SUBSTRING "${page}" 0 ${at} head)
math(EXPR after "${at} + 6")
string(SUBSTRING "${page}" ${after} -1 tail)

function(array text name)
  string(HEX "${text}" bytes)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)" "\\1\n"
    bytes "${bytes}")
  set(out "${out}const unsigned char ${name}[] = {\n${bytes}};\nconst size_t ${name}_size = sizeof ${name};\n" PARENT_SCOPE)
endfunction()

set(out "/* Made by embed.cmake from report.html, report.css and report.js. */\n#include <stddef.h>\n"
  "extern const unsigned char moda_html_head[], moda_html_tail[]\;\n"
  "extern const size_t moda_html_head_size, moda_html_tail_size\;\n")
string(CONCAT out ${out})
array("${head}" moda_html_head)
array("${tail}" moda_html_tail)
file(WRITE "${OUTPUT}" "${out}")
