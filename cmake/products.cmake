# What is built for others: the executable, the library in both forms, its headers and its pkg-config file.
include(GNUInstallDirs)

# The version is the public header's.
file(STRINGS ${CMAKE_SOURCE_DIR}/include/ochre/ochre.h OCHRE_VERSION REGEX "^#define OCH_VERSION  *\"")
string(REGEX REPLACE ".*\"([0-9.]+)\".*" "\\1" OCHRE_VERSION "${OCHRE_VERSION}")

# ---- the executable ----
file(GLOB ochre_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/ochre/*.c)
add_executable(ochre ${ochre_sources})
target_link_libraries(ochre PRIVATE ochre_mode)
set_target_properties(ochre PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
if(NOT OCHRE_SANITIZE)
  find_library(JEMALLOC NAMES libjemalloc.a)
  if(JEMALLOC)
    target_compile_definitions(ochre PRIVATE OCHRE_JEMALLOC)
    # Named first, or the linker would take the C library's malloc and leave the archive out.
    target_link_options(ochre PRIVATE -Wl,--undefined=malloc)
    target_link_libraries(ochre PRIVATE ${JEMALLOC})
  endif()
endif()

# ---- headers and pkg-config, for use from the build folder ----
file(GLOB public_headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/include/ochre/*.h)
foreach(header ${public_headers})
  get_filename_component(name ${header} NAME)
  configure_file(${header} ${CMAKE_BINARY_DIR}/include/ochre/${name} COPYONLY)
endforeach()
set(OCHRE_PC_PREFIX ${CMAKE_BINARY_DIR})
set(OCHRE_PC_LIBDIR "\${prefix}")
set(OCHRE_PC_INCLUDEDIR "\${prefix}/include")
configure_file(${CMAKE_SOURCE_DIR}/ochre.pc.in ${CMAKE_BINARY_DIR}/ochre.pc @ONLY)

# ---- the library ----
# Unique symbols could not be made local, and would keep the library from being unloaded.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(ochre_json PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>)
endif()

# Only these sources hold public names; everything else comes out of the modules' archives as it is needed.
file(GLOB library_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/mode/library*.c)
add_library(ochre_public OBJECT ${library_sources})

add_library(ochre_shared SHARED $<TARGET_OBJECTS:ochre_public>)
target_link_libraries(ochre_shared PRIVATE ochre_mode)
set(map ${CMAKE_SOURCE_DIR}/cmake/ochre.map)
target_link_options(ochre_shared PRIVATE -Wl,--version-script=${map} -Wl,--as-needed -Wl,--gc-sections)
if(NOT OCHRE_SANITIZE)
  target_link_options(ochre_shared PRIVATE -Wl,-z,defs)
endif()
set_target_properties(ochre_shared PROPERTIES OUTPUT_NAME ochre VERSION ${OCHRE_VERSION} SOVERSION 1
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} LINKER_LANGUAGE CXX LINK_DEPENDS ${map})

# Static: one relocatable object in which all names but the public ones have become local, so that short names meet nobody else's.
set(archives)
foreach(name mode admin gateway function compact query view wal sysdb part index store model net json base kernel)
  get_target_property(type ochre_${name} TYPE)
  if(type STREQUAL "STATIC_LIBRARY")
    list(APPEND archives $<TARGET_FILE:ochre_${name}>)
    list(APPEND archive_targets ochre_${name})
  endif()
endforeach()
list(APPEND archives ${OCHRE_DEPS}/lib/librure.a ${OCHRE_DEPS}/lib/libcroaring.a)
set(whole ${CMAKE_BINARY_DIR}/libochre.o)
add_custom_command(
  OUTPUT ${CMAKE_BINARY_DIR}/libochre.a
  COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${whole} $<TARGET_OBJECTS:ochre_public>
          --start-group ${archives} --end-group
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden --wildcard --keep-global-symbol=och_*
          --remove-section=.llvmbc --remove-section=.llvmcmd ${whole} # left over from Rust; archivers stumble over them
  COMMAND ${CMAKE_COMMAND} -E rm -f ${CMAKE_BINARY_DIR}/libochre.a
  COMMAND ${CMAKE_AR} rcs ${CMAKE_BINARY_DIR}/libochre.a ${whole}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${whole}
  DEPENDS ochre_public ${archive_targets}
  COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(ochre_static ALL DEPENDS ${CMAKE_BINARY_DIR}/libochre.a)

# ---- installing ----
install(TARGETS ochre ochre_shared)
install(FILES ${CMAKE_BINARY_DIR}/libochre.a DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ochre)
file(RELATIVE_PATH up /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x) # right wherever the whole is put
string(REGEX REPLACE "/$" "" OCHRE_PC_PREFIX "\${pcfiledir}/${up}")
set(OCHRE_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
set(OCHRE_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
configure_file(${CMAKE_SOURCE_DIR}/ochre.pc.in ${CMAKE_BINARY_DIR}/install/ochre.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/install/ochre.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(NOT OCHRE_SANITIZE)
  add_test(NAME library_products COMMAND ${CMAKE_SOURCE_DIR}/tests/unit/mode/test_library_products.sh
           ${CMAKE_BINARY_DIR} ${CMAKE_C_COMPILER} ${CMAKE_CXX_COMPILER})
  add_test(NAME command_line COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/unit/apps/test_command_line.py $<TARGET_FILE:ochre>)
endif()
